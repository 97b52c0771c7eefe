//! The words of a configuration for the machines of a test, and the scripts that it names.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use lb_common::Forwarding;
use lb_common::endpoint::TCP;

use super::{BACKEND_PORT, Governed};
use crate::lab::aging_service;

/// What backends are called: `b0`, `b1`, …
pub fn backend_name(number: usize) -> String {
    format!("b{number}")
}

impl Governed {
    /// The part of a configuration that all services share.
    pub fn data_plane(&self) -> String {
        let interfaces: Vec<_> = self.wiring.cables().iter().map(|cable| cable.near.clone()).collect();
        format!("[data_plane]\ninterfaces = {interfaces:?}\nflow_table = 16_384\n")
    }

    /// A service of all backends at the VIP, with `settings` of its own.
    pub fn describe(&self, service: &str, settings: &str) -> String {
        self.describe_at(service, self.vip(), settings)
    }

    /// The same at another VIP.
    pub fn describe_at(&self, service: &str, vip: SocketAddr, settings: &str) -> String {
        self.describe_driven(service, vip, settings, |number| self.describe_driver(number))
    }

    /// The same with drivers of the test's own, by the number of the backend.
    pub fn describe_driven(
        &self,
        service: &str,
        vip: SocketAddr,
        settings: &str,
        driver: impl Fn(usize) -> String,
    ) -> String {
        let is_tcp = self.options.protocol == TCP;
        let forwarding = match self.options.forwarding {
            Forwarding::Nat => "nat",
            Forwarding::Dsr => "dsr",
            Forwarding::Ipip => "ipip",
        };
        let mut text = format!(
            "[[service]]\nname = \"{}\"\nvip = \"{vip}\"\nprotocol = \"{}\"\nforwarding = \"{forwarding}\"\n{settings}\n",
            self.service(service),
            if is_tcp { "tcp" } else { "udp" },
        );
        text.push_str("[service.check]\n");
        text.push_str(if is_tcp {
            "type = \"http\"\npath = \"/free\"\n"
        } else {
            "type = \"udp\"\npayload = \"well?\"\nanswer = \"well\"\n"
        });
        text.push_str("interval = \"50ms\"\nfast_interval = \"50ms\"\n");
        text.push_str("[service.rejuvenation]\nprobe_interval = \"100ms\"\n");
        for number in 0..self.options.backends {
            let (name, machine) = (backend_name(number), self.backend(number).address);
            let address = SocketAddr::new(machine, BACKEND_PORT);
            let driver = driver(number);
            let head = format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
            text.extend([&head, "[service.backend.driver]\n", &driver]);
        }
        text
    }

    /// A VIP for a service whose backends run on the balancer; the seven addresses after it are this test's, too.
    pub fn embedded_vip(&self) -> SocketAddr {
        // Services of one machine never share a VIP, even on hosts that do not see each other.
        let [_, high, middle, low] = ((std::process::id() << 6) | ((self.number % 8) << 3)).to_be_bytes();
        ([10, 94 + high % 16, middle, low], BACKEND_PORT).into()
    }

    /// A service of processes on the balancer, each in a namespace of its own.
    pub fn describe_processes(
        &self,
        service: &str,
        vip: SocketAddr,
        backends: &[&str],
        settings: &str,
    ) -> String {
        let head = format!(
            "[[service]]\nname = \"{}\"\nvip = \"{vip}\"\n{settings}\n[service.check]\ntype = \"tcp\"\n\
             interval = \"50ms\"\nfast_interval = \"50ms\"\n",
            self.service(service)
        );
        let command = aging_service();
        let backends = backends.iter().map(|name| {
            format!(
                "[[service.backend]]\nname = \"{name}\"\naddress = \"0.0.0.0:{BACKEND_PORT}\"\n\
                 [service.backend.driver]\ntype = \"process\"\n\
                 command = [\"{command}\", \"--healthy\", \"--listen\", \"0.0.0.0:{BACKEND_PORT}\"]\n"
            )
        });
        std::iter::once(head).chain(backends).collect()
    }

    fn describe_driver(&self, number: usize) -> String {
        let driver = if self.options.protocol == TCP {
            let (start, stop) = self.scripts(number);
            let pid_file = self.pid_file(number).display().to_string();
            format!("start = [\"{start}\"]\nstop = [\"{stop}\"]\npid_file = \"{pid_file}\"\n")
        } else {
            "restart = [\"/bin/true\"]\n".to_owned()
        };
        format!("type = \"command\"\n{driver}")
    }

    /// The file that holds the process id of a backend.
    pub fn pid_file(&self, number: usize) -> PathBuf {
        self.file(&format!("pid-{number}"))
    }

    /// What starts and stops the service on a backend's machine, as an init script would.
    fn scripts(&self, number: usize) -> (String, String) {
        let machine = self.backend(number);
        let namespace = format!("/proc/{}/fd/{}", std::process::id(), machine.netns.file().as_raw_fd());
        let any: SocketAddr = if machine.address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, BACKEND_PORT).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, BACKEND_PORT).into()
        };
        let pid_file = self.pid_file(number).display().to_string();
        let (service, hangs) = (aging_service(), self.file(&format!("hang-{number}")).display().to_string());
        let start = format!(
            "if mv {hangs} {hangs}.done 2>/dev/null; then sleep 600; fi\n\
             nsenter --net={namespace} {service} --healthy --listen {any} --backend {number} >/dev/null 2>&1 &\n\
             echo $! > {pid_file}\n"
        );
        // One that does not run on never hears that it is to end.
        let stop = format!("kill $(cat {pid_file})\nkill -CONT $(cat {pid_file})\n");
        (self.script(&format!("start-{number}"), &start), self.script(&format!("stop-{number}"), &stop))
    }

    /// A script of the test's own; its path.
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.file(name);
        fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }
}
