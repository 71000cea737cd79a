#!/usr/bin/env python3
"""Independent check of VRRP captures (standard library only).

It was written against captures of keepalived and FRR before vipd existed and shares no code with vipd
or with the tests: do not "fix" it together with them.

For every VRRP frame it prints which checksum rule the frame satisfies:
  msg   = one's-complement sum over the VRRP message alone
  pseudo= message plus pseudo-header with the real IP destination
  mcast = message plus IPv4 pseudo-header with 224.0.0.18 as destination (old keepalived unicast)
and for AH frames whether the HMAC-MD5-96 matches (--ah-key).
Usage: check_pcap.py [--ah-key KEY] [--hex] FILE...
"""
import hashlib, hmac, ipaddress, struct, sys
def s16(b, acc=0):
    b += b'\0' * (len(b) & 1)
    acc += sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while acc >> 16: acc = (acc & 0xffff) + (acc >> 16)
    return acc
def ok(b): return s16(b) == 0xffff
def frames(path):
    d = open(path, 'rb').read()
    e = '<' if d[:4] in (b'\xd4\xc3\xb2\xa1', b'\x4d\x3c\xb2\xa1') else '>'
    o = 24
    while o + 16 <= len(d):
        ts, us, cap, _ = struct.unpack(e + 'IIII', d[o:o + 16]); o += 16
        yield ts + us / 1e6, d[o:o + cap]; o += cap
def vrrp(f, key):
    et = struct.unpack('!H', f[12:14])[0]; p = f[14:]
    if et == 0x800:
        ihl = (p[0] & 15) * 4; tot = struct.unpack('!H', p[2:4])[0]; ip, m = p[:ihl], p[ihl:tot]
        proto, ttl, src, dst, note = p[9], p[8], p[12:16], p[16:20], 'iphdr=' + ('ok' if ok(ip) else 'BAD')
        if proto == 51:
            ah, m = m[:24], m[24:]
            uni = dst[0] < 224
            h = bytearray(ip); h[1] = 0; h[6:8] = b'\0\0'; h[10:12] = b'\0\0'
            if uni: h[8] = 0
            icv = hmac.new(key, bytes(h) + ah[:12] + bytes(12) + m, hashlib.md5).digest()[:12]
            note += ' AH(spi=%s seq=%d icv=%s)' % (ipaddress.ip_address(ah[4:8]), struct.unpack('!I', ah[8:12])[0], 'ok' if icv == ah[12:24] else 'BAD'); proto = ah[0]
        if proto != 112: return None
        n = 8 + 4 * m[3]; msg = m[:n]
        ph = lambda d: src + d + bytes([0, 112]) + struct.pack('!H', n)
        if m[0] >> 4 == 2: rules = {'msg': ok(m)}
        else: rules = {'msg': ok(msg), 'pseudo': ok(ph(dst) + msg), 'mcast': ok(ph(bytes([224, 0, 0, 18])) + msg)}
    elif et == 0x86dd:
        if p[6] != 112: return None
        ln = struct.unpack('!H', p[4:6])[0]; m = p[40:40 + ln]; ttl, src, dst, note = p[7], p[8:24], p[24:40], 'tc=%02x' % ((struct.unpack('!I', p[:4])[0] >> 20) & 255)
        rules = {'msg': ok(m), 'pseudo': ok(src + dst + struct.pack('!I', ln) + bytes([0, 0, 0, 112]) + m)}
    else: return None
    v = m[0] >> 4
    adv = '%ds auth=%d' % (m[5], m[4]) if v == 2 else '%dcs' % (struct.unpack('!H', m[4:6])[0] & 0xfff)
    return '%s > %s ttl=%d v%d vrid=%d prio=%d n=%d adv=%s csum=%04x [%s] %s' % (ipaddress.ip_address(src), ipaddress.ip_address(dst), ttl, v, m[1], m[2], m[3], adv,
        struct.unpack('!H', m[6:8])[0], ' '.join(k for k, x in rules.items() if x) or 'NONE', note)
def main(a):
    key, hx = b'', False
    if '--ah-key' in a: i = a.index('--ah-key'); key = a[i + 1].encode()[:8].ljust(8, b'\0'); del a[i:i + 2]
    if '--hex' in a: a.remove('--hex'); hx = True
    for path in a:
        print('==', path); t0 = None
        for t, f in frames(path):
            t0 = t0 or t; r = vrrp(f, key)
            if r: print('%9.4f %s' % (t - t0, r)); hx and print('          ' + f.hex())
            elif hx: print('%9.4f other\n          %s' % (t - t0, f.hex()))
main(sys.argv[1:])
