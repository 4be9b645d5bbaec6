//! A room: hosts of its own (network namespaces) on one bridge, without a way out. What runs on them
//! cannot send a packet anywhere else, and every program finds its favourite port free.
//!
//! ```text
//! let room = Room::new();
//! let (tracker, seed) = (room.host(), room.host());
//! seed.command("aria2c").arg("--version").output();
//! ```

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What lies here in a folder of a namespace's name stands in for the same file of /etc (ip-netns(8)).
const ETC: &str = "/etc/netns";

/// Tells the rooms of one test run apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A bridge in a namespace of its own; dropping it removes everything that was made for it.
pub struct Room {
    bridge: String,
    hosts: RefCell<Vec<String>>,
}

/// One machine in a room.
#[derive(Debug, Clone)]
pub struct Host {
    namespace: String,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its IPv6 address. If it has one, it has no other, unless it was given both.
    pub six: Option<Ipv6Addr>,
}

impl Room {
    /// An empty room. Panics where namespaces cannot be made: these tests need root.
    pub fn new() -> Room {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("ropewalk-{}-{number}", std::process::id());
        ip(&format!("netns add {bridge}"));
        let room = Room {
            bridge: bridge.clone(),
            hosts: RefCell::default(),
        };
        ip(&format!("-n {bridge} link add lane type bridge"));
        ip(&format!("-n {bridge} link set lane up"));
        room
    }

    /// One more machine.
    pub fn host(&self) -> Host {
        let mut hosts = self.hosts.borrow_mut();
        let number = hosts.len() + 1;
        let address = Ipv4Addr::new(10, 99, 0, u8::try_from(number).expect("a small room"));
        let namespace = format!("{}-{number}", self.bridge);
        ip(&format!("netns add {namespace}"));
        hosts.push(namespace.clone());
        let bridge = &self.bridge;
        ip(&format!(
            "-n {namespace} link add eth0 type veth peer name port{number} netns {bridge}"
        ));
        ip(&format!("-n {bridge} link set port{number} master lane up"));
        ip(&format!("-n {namespace} addr add {address}/24 dev eth0"));
        ip(&format!("-n {namespace} link set lo up"));
        ip(&format!("-n {namespace} link set eth0 up"));
        // Programs that look for "the" interface take the one of the default route; nobody is there
        // to carry anything on.
        ip(&format!("-n {namespace} route add default dev eth0"));
        Host {
            namespace,
            address,
            six: None,
        }
    }

    /// One more machine, with an IPv4 and an IPv6 address.
    pub fn host_of_both(&self) -> Host {
        self.with_six(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0))
    }

    /// One more machine, with an IPv6 address alone.
    pub fn host_of_six(&self) -> Host {
        without_four(self.host_of_both())
    }

    /// One more machine, with an IPv4 address and an IPv6 address as of the Internet (of the prefix for
    /// examples), and with a way there, where nobody is to carry anything on.
    pub fn host_of_both_worldwide(&self) -> Host {
        let host = self.with_six(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
        let namespace = &host.namespace;
        ip(&format!("-n {namespace} -6 route add default dev eth0"));
        host
    }

    /// The same with the IPv6 address alone.
    pub fn host_of_six_worldwide(&self) -> Host {
        without_four(self.host_of_both_worldwide())
    }

    fn with_six(&self, prefix: Ipv6Addr) -> Host {
        let mut host = self.host();
        let number = u128::from(host.address.octets()[3]);
        let six = Ipv6Addr::from_bits(prefix.to_bits() | number);
        let namespace = &host.namespace;
        // Without the second in which an address is only being tried.
        ip(&format!("-n {namespace} addr add {six}/64 dev eth0 nodad"));
        host.six = Some(six);
        host
    }
}

fn without_four(host: Host) -> Host {
    let (namespace, address) = (&host.namespace, host.address);
    ip(&format!("-n {namespace} addr del {address}/24 dev eth0"));
    host
}

impl Drop for Room {
    fn drop(&mut self) {
        for namespace in self.hosts.borrow().iter().chain([&self.bridge]) {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
            let _ = std::fs::remove_dir_all(Path::new(ETC).join(namespace));
        }
    }
}

impl Host {
    /// From now on its programs know `name` by this address and no other.
    pub fn knows(&self, name: &str, address: IpAddr) {
        self.etc("hosts", &format!("127.0.0.1 localhost\n{address} {name}\n"));
    }

    /// Where its programs listen, as it stands before a colon and a port.
    pub fn listen(&self) -> String {
        match self.six {
            Some(six) => format!("[{six}]"),
            None => self.address.to_string(),
        }
    }

    /// A command that runs on this host and is killed when the test's thread ends, however it ends.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec"]);
        command.arg(&self.namespace).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Caps what this host sends, in Mbit/s.
    pub fn limit(&self, mbit: u32) {
        let tbf =
            format!("tc qdisc replace dev eth0 root tbf rate {mbit}mbit burst 64kb latency 100ms");
        let namespace = &self.namespace;
        let mut words = tbf.split(' ');
        let done = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(&mut words)
            .status()
            .expect("ip runs");
        assert!(done.success(), "cannot cap {namespace}");
    }

    /// Has a file of its own in the place of `/etc/NAME`.
    pub fn etc(&self, name: &str, text: &str) {
        let folder = Path::new(ETC).join(&self.namespace);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        std::fs::write(folder.join(name), text).expect("a file can be written");
    }

    /// Throws away so many of a hundred packets that come in, by chance.
    pub fn lose(&self, percent: u32) {
        self.filter(&format!("numgen random mod 100 < {percent} drop"));
    }

    /// Throws away every packet that comes in but the ones that look for the hardware's address.
    pub fn hear_nothing(&self) {
        self.filter("drop");
    }

    /// Answers every packet with a refusal.
    pub fn refuse(&self) {
        self.filter("reject with icmpx admin-prohibited");
    }

    fn filter(&self, rule: &str) {
        let rules = format!(
            "table inet rain {{ chain input {{ type filter hook input priority 0; {rule}; }}; }}\n"
        );
        let namespace = &self.namespace;
        let mut nft = Command::new("ip")
            .args(["netns", "exec", namespace, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut stdin = nft.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut stdin, rules.as_bytes()).expect("nft reads");
        drop(stdin);
        assert!(
            nft.wait().expect("nft ends").success(),
            "cannot make it rain in {namespace}"
        );
    }

    /// Takes the cap away.
    pub fn unlimited(&self) {
        let _ = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(["tc", "qdisc", "del", "dev", "eth0", "root"])
            .status();
    }

    /// The answer to a GET by HTTP/1.0 made on this host, head and all; empty if nobody answers.
    pub fn http_get(&self, to: SocketAddrV4, path: &str) -> Vec<u8> {
        let script =
            "exec 3<>/dev/tcp/$1/$2 && printf 'GET %s HTTP/1.0\\r\\n\\r\\n' \"$3\" >&3 && cat <&3";
        self.command("bash")
            .args([
                "-c",
                script,
                "bash",
                &to.ip().to_string(),
                &to.port().to_string(),
                path,
            ])
            .stderr(Stdio::null())
            .output()
            .expect("bash runs")
            .stdout
    }
}

/// Looks every 50 ms whether `happened` gives a value; panics with `what` when `seconds` have passed.
pub fn await_event<T>(what: &str, seconds: u64, mut happened: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = happened() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "{seconds} s have passed without this: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes as a URL's query wants them.
pub fn percent(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02x}");
        text
    })
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output();
    let done = done.expect("iproute2 is installed");
    assert!(
        done.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
