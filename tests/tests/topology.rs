//! The network of services on a real kernel: made, used from all sides, adopted, repaired, removed. Needs root.

mod host;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use baton::driver::netns::{self, AdoptError, CreateError, Topology, resolv_conf_override};
use baton::net::netlink::Netlink;
use baton::net::netns::{NetnsHandle, run_in};
use baton::net::{offload, sysctl};
use baton_tests::lan::{HOST, OUTSIDE, answer_one_query, route};
use host::{Host, exchange, on_a_host};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn balancer(topology: &Topology) -> NetnsHandle {
    NetnsHandle::open(&topology.balancer_netns).unwrap()
}

fn backend(topology: &Topology, number: usize) -> NetnsHandle {
    NetnsHandle::open(&topology.backends[number].netns).unwrap()
}

#[test]
fn two_services_work_side_by_side_and_leave_nothing() {
    on_a_host(&["web", "shop"], |host| async move {
        let before = host.snapshot().await;
        let web = host.create("web", "10.77.0.1").await.topology;
        let shop = host.create("shop", "10.77.0.2").await.topology;
        assert_ne!(web.subnet, shop.subnet);
        for service in [&web, &shop] {
            let seen = exchange(&balancer(service), service.vip, &host.netns, service.vip);
            assert_eq!(seen, Some(service.uplink.near.address.into()), "the host reaches the VIP");
            for number in 0..2 {
                let inside = backend(service, number);
                let own = service.backends[number].pair.far.address;
                let seen = exchange(&host.netns, ANY, &inside, HOST);
                assert_eq!(seen, Some(own.into()), "a backend reaches the host under its own address");
                let seen = exchange(&inside, own, &balancer(service), own);
                assert_eq!(seen, Some(service.backends[number].pair.near.address.into()));
            }
        }
        let seen = exchange(&balancer(&shop), shop.vip, &backend(&web, 0), shop.vip);
        assert_eq!(seen, Some(web.backends[0].pair.far.address.into()), "a service uses another's VIP");

        netns::remove(&host.roots, &web.name).await.unwrap();
        assert!(exchange(&balancer(&shop), shop.vip, &host.netns, shop.vip).is_some());
        assert_eq!(sysctl::read("ipv4/conf/eth0/forwarding").unwrap(), "1", "the other needs it still");
        netns::remove(&host.roots, &shop.name).await.unwrap();
        assert_eq!(host.snapshot().await, before);
        assert_eq!(netns::remove(&host.roots, &shop.name).await.unwrap().what, [""; 0]);
    });
}

#[test]
fn a_backend_reaches_a_server_that_knows_no_way_back() {
    on_a_host(&["web"], |host| async move {
        let web = host.create("web", "10.77.0.1").await.topology;
        let seen = exchange(&host.outside, ANY, &backend(&web, 0), OUTSIDE);
        assert_eq!(seen, Some(HOST.into()), "masqueraded as the host");
    });
}

#[test]
fn a_client_on_another_machine_reaches_the_vip_untracked() {
    on_a_host(&["web"], |host| async move {
        let web = host.create("web", "10.77.0.1").await.topology;
        route(&host.outside, "10.77.0.1/32", HOST).await;
        let seen = exchange(&balancer(&web), web.vip, &host.outside, web.vip);
        assert_eq!(seen, Some(OUTSIDE.into()), "under its own address");
        let tracked = fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default();
        assert!(!tracked.contains("10.77.0.1"), "{tracked}");
    });
}

#[test]
fn the_stack_forwards_replies_in_the_vips_name_while_the_data_plane_knows_no_way() {
    on_a_host(&["web"], |host| async move {
        let web = host.create("web", "10.77.0.1").await.topology;
        // New namespaces take what the machine has; this is the strictest.
        run_in(&balancer(&web), || sysctl::write("ipv4/conf/all/rp_filter", "1")).unwrap().unwrap();
        let receiver = run_in(&host.outside, || UdpSocket::bind((OUTSIDE, 0))).unwrap().unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        // What the data plane makes of a reply that it hands to the stack: it comes from the backend's side.
        let inside = backend(&web, 0);
        run_in(&inside, || ip(&format!("address add {}/32 dev lo", web.vip))).unwrap();
        let sender = run_in(&inside, || UdpSocket::bind((web.vip, 8080))).unwrap().unwrap();
        sender.send_to(b"reply", receiver.local_addr().unwrap()).unwrap();
        let (length, from) = receiver.recv_from(&mut [0; 16]).expect("the reply arrives");
        assert_eq!((length, from), (5, (web.vip, 8080).into()));
    });
}

#[test]
fn a_vip_inside_the_lan_is_found_by_arp() {
    on_a_host(&["web"], |host| async move {
        let before = host.snapshot().await;
        let web = host.create("web", "192.0.2.77").await.topology;
        let seen = exchange(&balancer(&web), web.vip, &host.outside, web.vip);
        assert_eq!(seen, Some(OUTSIDE.into()));
        netns::remove(&host.roots, &web.name).await.unwrap();
        assert_eq!(host.snapshot().await, before);
    });
}

#[test]
fn the_host_forwards_for_services_only_until_it_is_made_a_router() {
    on_a_host(&["web"], |host| async move {
        let other = NetnsHandle::anonymous().unwrap();
        let far = Ipv4Addr::new(198, 51, 100, 50);
        let near = Ipv4Addr::new(198, 51, 100, 2);
        host.attach("eth1", near, &other, far).await;
        route(&host.outside, "198.51.100.0/24", HOST).await;
        route(&other, "192.0.2.0/24", near).await;
        let web = host.create("web", "10.77.0.1").await.topology;
        assert_eq!(exchange(&other, ANY, &host.outside, far), None, "no way through the host");
        assert_eq!(exchange(&other, ANY, &backend(&web, 1), far), Some(near.into()));

        sysctl::write("ipv4/ip_forward", "1").unwrap();
        netns::adopt(&host.roots, &web.name).await.unwrap();
        assert_eq!(exchange(&other, ANY, &host.outside, far), Some(OUTSIDE.into()));
        netns::remove(&host.roots, &web.name).await.unwrap();
        assert_eq!(sysctl::read("ipv4/conf/eth0/forwarding").unwrap(), "1", "the host's own choice");
    });
}

#[test]
fn every_sender_on_a_veth_finishes_its_checksums() {
    on_a_host(&["web"], |host| async move {
        let web = host.create("web", "10.77.0.1").await.topology;
        let mut ends =
            vec![(NetnsHandle::own().unwrap(), &web.uplink.near), (balancer(&web), &web.uplink.far)];
        for (number, site) in web.backends.iter().enumerate() {
            ends.extend([(balancer(&web), &site.pair.near), (backend(&web, number), &site.pair.far)]);
        }
        assert_eq!(ends.len(), 6);
        for (netns, end) in ends {
            let on = run_in(&netns, || offload::tx_checksum_is_on(&end.ifname)).unwrap().unwrap();
            assert!(!on, "{}", end.ifname);
            let told = run_in(&netns, || Command::new("ethtool").args(["-k", &end.ifname]).output());
            let told = String::from_utf8(told.unwrap().unwrap().stdout).unwrap();
            assert!(told.contains("tx-checksumming: off"), "{told}");
        }
    });
}

#[test]
fn a_fresh_network_is_adopted_without_repair_and_a_damaged_one_is_repaired() {
    on_a_host(&["web"], |host| async move {
        let web = host.create("web", "192.0.2.77").await.topology;
        let adopted = netns::adopt(&host.roots, &web.name).await.unwrap();
        assert_eq!(adopted.repaired, [""; 0]);
        assert_eq!(adopted.topology, web);

        run_in(&balancer(&web), || {
            ip("addr del 192.0.2.77/32 dev lo");
            ip("route del default");
            ip("link set dev a down");
        })
        .unwrap();
        ip("route del 192.0.2.77/32");
        ip("neigh del proxy 192.0.2.77 dev eth0");
        sysctl::write("ipv4/conf/eth0/forwarding", "0").unwrap();
        Command::new("nft").args(["delete", "table", "ip", &format!("baton-{}", web.name)]).status().unwrap();

        let adopted = netns::adopt(&host.roots, &web.name).await.unwrap();
        assert!(adopted.repaired.len() >= 6, "{:?}", adopted.repaired);
        assert_eq!(exchange(&balancer(&web), web.vip, &host.outside, web.vip), Some(OUTSIDE.into()));
        assert_eq!(exchange(&host.outside, ANY, &backend(&web, 0), OUTSIDE), Some(HOST.into()));
        let again = netns::adopt(&host.roots, &web.name).await.unwrap();
        assert_eq!(again.repaired, [""; 0]);
    });
}

#[test]
fn what_cannot_be_repaired_is_refused_with_the_remedy() {
    on_a_host(&["web", "none"], |host| async move {
        let error = netns::adopt(&host.roots, &host.name("none")).await.unwrap_err();
        assert!(matches!(error, AdoptError::Unknown(_)), "{error}");
        let web = host.create("web", "10.77.0.1").await.topology;
        ip(&format!("link del {}", web.uplink.near.ifname));
        let error = netns::adopt(&host.roots, &web.name).await.unwrap_err().to_string();
        assert!(error.contains("interface") && error.contains("baton down --name"), "{error}");
    });
}

#[test]
fn a_name_and_a_vip_are_given_once() {
    on_a_host(&["web", "shop"], |host| async move {
        let web = host.create("web", "10.77.0.1").await.topology;
        let twice = netns::create(&host.roots, &host.spec("web", "10.77.0.3")).await.unwrap_err();
        assert!(twice.to_string().contains("has a network on this host already"), "{twice}");
        let in_use = netns::create(&host.roots, &host.spec("shop", "10.77.0.1")).await.unwrap_err();
        assert!(in_use.to_string().contains(&format!("in use by service {}", web.name)), "{in_use}");
        // The kernel knows as much when the record is lost.
        fs::remove_dir_all(host.roots.service(&web.name).run_dir()).unwrap();
        let in_use = netns::create(&host.roots, &host.spec("shop", "10.77.0.1")).await.unwrap_err();
        assert!(in_use.to_string().contains(&format!("in use by service {}", web.name)), "{in_use}");
    });
}

#[test]
fn a_creation_that_fails_at_its_last_step_leaves_nothing() {
    on_a_host(&["web"], |host| async move {
        let before = host.snapshot().await;
        let run_dir = host.roots.service(&host.name("web")).run_dir();
        fs::create_dir_all(run_dir.join("topology.json.new")).unwrap();
        let error = netns::create(&host.roots, &host.spec("web", "192.0.2.77")).await.unwrap_err();
        let CreateError::Step { step, .. } = &error else { panic!("{error}") };
        assert_eq!(*step, "record the network");
        assert_eq!(host.snapshot().await, before);
    });
}

#[test]
fn a_creation_cut_short_anywhere_is_removed_wholly() {
    on_a_host(&["web"], |host| async move {
        let before = host.snapshot().await;
        let (mut cut, mut finished) = (0, false);
        for after_ms in (0..200).step_by(5) {
            let spec = host.spec("web", "192.0.2.77");
            let work = netns::create(&host.roots, &spec);
            finished = tokio::time::timeout(Duration::from_millis(after_ms), work).await.is_ok();
            cut += u32::from(!finished);
            netns::remove(&host.roots, &spec.name).await.unwrap();
            assert_eq!(host.snapshot().await, before, "cut after {after_ms} ms");
            if finished {
                break;
            }
        }
        assert!(cut > 0 && finished, "{cut} cut short, the last finished: {finished}");
    });
}

#[test]
fn a_service_is_removed_though_its_record_is_lost() {
    on_a_host(&["web"], |host| async move {
        let before = host.snapshot().await;
        let web = host.create("web", "192.0.2.77").await.topology;
        fs::remove_dir_all(host.roots.service(&web.name).run_dir()).unwrap();
        let removed = netns::remove(&host.roots, &web.name).await.unwrap();
        assert!(removed.what.len() >= 7, "{:?}", removed.what);
        assert_eq!(host.snapshot().await, before);
    });
}

#[test]
fn a_namespace_with_a_process_in_it_loses_its_links_at_once() {
    on_a_host(&["web"], |host| async move {
        let web = host.create("web", "10.77.0.1").await.topology;
        let inside = backend(&web, 0);
        netns::remove(&host.roots, &web.name).await.unwrap();
        let links = Netlink::open(&inside).unwrap().links().await.unwrap();
        assert!(links.iter().all(|link| link.name != "eth0"), "{links:?}");
    });
}

#[test]
fn a_command_resolves_names_through_the_file_it_is_given() {
    on_a_host(&["web"], |host| async move {
        let web = host.create("web", "10.77.0.1").await.topology;
        let server = run_in(&host.outside, || UdpSocket::bind((OUTSIDE, 53))).unwrap().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let answering = std::thread::spawn(move || answer_one_query(&server, Ipv4Addr::new(203, 0, 113, 7)));
        let chosen = host.roots.run.join("chosen.conf");
        fs::write(&chosen, format!("nameserver {OUTSIDE}\noptions timeout:2 attempts:2\n")).unwrap();
        let paths = host.roots.service(&web.name);
        let file = resolv_conf_override(&paths, Some(&chosen)).unwrap().file.unwrap();
        let script = "mount --bind \"$1\" /etc/resolv.conf && getent ahostsv4 baton.test.";
        let asked = run_in(&backend(&web, 0), || {
            Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(&file).output()
        });
        let told = String::from_utf8(asked.unwrap().unwrap().stdout).unwrap();
        assert!(told.contains("203.0.113.7"), "{told}");
        answering.join().unwrap();
        netns::remove(&host.roots, &web.name).await.unwrap();
        assert!(!file.exists());
    });
}

#[test]
fn the_preflight_passes_where_the_other_tests_do() {
    on_a_host(&[], |host: Host| async move {
        let before = host.snapshot().await;
        netns::preflight(&host.roots).await.unwrap();
        assert_eq!(host.snapshot().await, before);
    });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
