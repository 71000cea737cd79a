//! Tell the network: gratuitous ARP, unsolicited neighbour advertisements.
