//! The program, as somebody starts it by hand.

use std::net::TcpListener;
use std::process::{Command, Output};

use data_generation_fault_server::{FaultServer, Plan};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_data-generation-fault-server"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_list_names_every_fault() {
    let output = run(&["--list"]);
    let list = String::from_utf8(output.stdout).unwrap();
    for fault in data_generation_fault_server::FAULTS {
        assert!(
            list.contains(&format!("  {} ", fault.name)),
            "{}",
            fault.name
        );
    }
    assert!(output.status.success());
}

#[test]
fn the_page_is_printed_as_it_is() {
    let output = run(&["--page"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        data_generation_fault_server::page()
    );
}

#[test]
fn a_name_that_is_not_known_is_refused_with_the_nearest_one() {
    let output = run(&["--fault", "inssuficient-quota"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains("did you mean `insufficient-quota`?"),
        "{words}"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_port_that_is_taken_is_named_with_the_cure() {
    let others = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = FaultServer::start_blocking(Plan::good()).unwrap();
    for taken in [others.local_addr().unwrap(), ours.address()] {
        let port = taken.port().to_string();
        let output = run(&["--port", &port]);
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(
            words.contains(&port) && words.contains("another --port"),
            "{words}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}
