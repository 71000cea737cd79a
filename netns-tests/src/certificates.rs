//! Certificates for servers of a test, made by openssl.

use std::path::PathBuf;

use crate::host::Host;

/// A directory with an authority (`ca.pem`) and certificates of it for one key (`key.pem`): `cert.pem`, and `old.pem`,
/// which has expired.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// For the addresses of this host and what else is named, such as `DNS:etcd` or `IP:10.77.0.100`.
    ///
    /// # Panics
    ///
    /// When openssl cannot.
    pub fn make(host: &Host, names: &[&str]) -> Self {
        let made = Self { directory: host.directory.join("tls") };
        std::fs::create_dir(&made.directory).expect("the lab's directory is ours");
        let own = [format!("IP:{}", host.ipv4()), "IP:127.0.0.1".to_owned()];
        let names: Vec<&str> = own.iter().map(String::as_str).chain(names.iter().copied()).collect();
        std::fs::write(made.path("names"), format!("subjectAltName={}\n", names.join(","))).expect("ours");
        let (authority, key) = (made.path("ca.key"), made.path("key.pem"));
        made.openssl(
            host,
            "req -x509 -days 90 -subj /CN=lab",
            &["-keyout", &authority, "-out", &made.path("ca.pem")],
        );
        made.openssl(host, "req -subj /CN=server", &["-keyout", &key, "-out", &made.path("request")]);
        for (name, days) in [("cert.pem", "5"), ("old.pem", "-1")] {
            host.run(&[
                "openssl",
                "x509",
                "-req",
                "-CAcreateserial",
                "-days",
                days,
                "-in",
                &made.path("request"),
                "-CA",
                &made.path("ca.pem"),
                "-CAkey",
                &authority,
                "-extfile",
                &made.path("names"),
                "-out",
                &made.path(name),
            ]);
        }
        made
    }

    fn openssl(&self, host: &Host, words: &str, files: &[&str]) {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let words: Vec<&str> = words.split(' ').chain(key.split(' ')).collect();
        host.run(&[&["openssl"], words.as_slice(), files].concat());
    }

    /// Of a file in it.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }
}
