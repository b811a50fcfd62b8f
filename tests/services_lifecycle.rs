//! The servers for tests: they start, can be killed and come back, and never outlive who started them.

mod services;

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use services::kafka::KafkaBroker;
use services::{HdfsCluster, S3Server};

const CHILD_VARIABLE: &str = "ICECORE_TEST_LIFECYCLE_CHILD";
/// Longest until killed servers and their folders are gone, on a busy machine.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_secs(600);

fn listens(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Processes, zombies left out, whose command line contains this.
fn processes_of(text: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + GONE_WITHIN;
    while !is() {
        assert!(Instant::now() < until, "not within {GONE_WITHIN:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal with `kill`, which takes negative numbers for process groups.
fn signal(signal: &str, process: impl std::fmt::Display) {
    let status = Command::new("kill").args([signal, "--", &process.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {process}");
}

/// The folder of a running server, by one that lies in it.
fn run_folder(inside: &Path) -> String {
    inside.parent().unwrap().to_str().unwrap().to_owned()
}

fn assert_gone(folder: &str, guard: u32) {
    wait_until(&format!("no process of {folder}, but {:?}", processes_of(folder)), || processes_of(folder).is_empty());
    wait_until("the folder is removed", || !Path::new(folder).exists());
    wait_until("the guard has ended", || !Path::new(&format!("/proc/{guard}/cmdline")).exists());
}

#[test]
fn an_s3_server_is_killed_and_comes_back_at_the_same_address() {
    let Some(server) = S3Server::start() else { return };
    let address = server.address().host_and_port().to_owned();
    assert!(listens(&address));
    server.kill9();
    assert!(!listens(&address));
    server.restart();
    assert!(listens(&address));
    server.pause();
    server.resume();

    let (folder, guard) = (run_folder(server.data()), server.guard());
    assert!(!processes_of(&folder).is_empty());
    server.stop();
    assert!(!listens(&address));
    assert_gone(&folder, guard);
}

#[test]
fn two_servers_keep_out_of_each_others_way() {
    let (Some(one), Some(other)) = (S3Server::start(), S3Server::start()) else { return };
    assert_ne!(one.address().endpoint(), other.address().endpoint());
    assert_ne!(one.data(), other.data());
    one.stop();
    assert!(listens(other.address().host_and_port()));
}

#[test]
fn a_server_can_keep_its_data_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = S3Server::start_in(folder.path()) else { return };
    assert_eq!(server.data(), folder.path());
    assert!(folder.path().join(server.address().bucket()).is_dir());
    server.stop();
    assert!(folder.path().join("icecore").is_dir(), "what the test brought is the test's");
}

#[test]
fn a_kafka_broker_is_killed_and_comes_back_at_the_same_address() {
    let Some(broker) = KafkaBroker::start() else { return };
    let (address, guard) = (broker.bootstrap().to_owned(), broker.guard());
    assert!(listens(&address));
    broker.kill9();
    assert!(!listens(&address));
    broker.restart();
    assert!(listens(&address));
    broker.pause();
    broker.resume();
    let folder = run_folder(broker.data());
    assert!(!processes_of(&folder).is_empty());
    broker.stop();
    wait_until("the broker's port is closed", || !listens(&address));
    assert_gone(&folder, guard);
}

#[test]
fn a_hdfs_cluster_loses_nodes_and_gets_them_back() {
    let Some(cluster) = HdfsCluster::start(3) else { return };
    assert!((0..3).all(|node| listens(&cluster.datanode(node))));
    assert!(!listens(&cluster.datanode_alias(0)), "that place is for a proxy");
    cluster.shell(&["-mkdir", "/limited"]);
    cluster.shell(&["-put", file!(), "/limited/source"]);
    cluster.set_space_quota("/limited", 1 << 20);

    cluster.kill_datanode(1);
    assert!(!listens(&cluster.datanode(1)));
    cluster.wait_live_datanodes(2);
    cluster.start_datanode(1);
    cluster.wait_live_datanodes(3);

    cluster.kill_datanode(2);
    cluster.start_datanode(2);
    cluster.wait_live_datanodes(3);
    assert!(listens(&cluster.datanode(2)), "the NameNode has not noticed yet that it was away");

    cluster.pause_datanode(0);
    cluster.kill_datanode(1);
    cluster.kill_namenode();
    cluster.make_whole();
    assert!((0..3).all(|node| listens(&cluster.datanode(node))), "one that died counts until it is noticed");

    cluster.restart_namenode();
    cluster.wait_live_datanodes(3);
    cluster.shell(&["-test", "-e", "/limited/source"]);
    cluster.clear_space_quota("/limited");
    let error = cluster.try_shell(&["-ls", "/no-such-folder"]).unwrap_err();
    assert!(error.contains("No such file or directory"), "{error}");

    let (folder, guard) = (run_folder(cluster.configuration()), cluster.guard());
    assert!(processes_of(&folder).len() >= 4);
    cluster.stop();
    assert_gone(&folder, guard);
}

/// The child: starts a server, says where, and then ends or lasts as it is told.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn child_that_starts_servers() {
    let Ok(how) = std::env::var(CHILD_VARIABLE) else { return };
    let (s3, hdfs);
    let (folder, guard) = if how.contains("hdfs") {
        hdfs = HdfsCluster::start(1).unwrap();
        (run_folder(hdfs.configuration()), hdfs.guard())
    } else {
        s3 = S3Server::start().unwrap();
        (run_folder(s3.data()), s3.guard())
    };
    println!("\nserver {guard} {folder}");
    match () {
        () if how.contains("panics") => panic!("as asked"),
        () if how.contains("exits") => std::process::exit(3),
        () => std::thread::sleep(NEVER),
    }
}

struct Parent {
    child: Child,
    folder: String,
    guard: u32,
}

impl Parent {
    /// A process in a group of its own, with a server that runs.
    fn start(how: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_starts_servers", "--ignored", "--nocapture"])
            .env(CHILD_VARIABLE, how)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.into_iter().find_map(|line| line.strip_prefix("server ").map(str::to_owned));
        let told = told.expect("the child tells of its server");
        let (guard, folder) = told.split_once(' ').unwrap();
        Self { child, folder: folder.into(), guard: guard.parse().unwrap() }
    }

    fn assert_leaves_nothing(mut self) {
        self.child.wait().unwrap();
        assert_gone(&self.folder, self.guard);
    }
}

/// Whether an S3 server can be had at all; says so if not.
fn s3_is_there() -> bool {
    services::shared_s3().is_some()
}

#[test]
fn kill_9_of_the_test_ends_the_s3_server() {
    if s3_is_there() {
        let mut parent = Parent::start("lasts");
        assert!(!processes_of(&parent.folder).is_empty());
        parent.child.kill().unwrap();
        parent.assert_leaves_nothing();
    }
}

#[test]
fn kill_9_of_the_test_ends_all_of_hdfs() {
    if services::shared_hdfs().is_some() {
        let mut parent = Parent::start("lasts with hdfs");
        assert!(processes_of(&parent.folder).len() >= 2);
        parent.child.kill().unwrap();
        parent.assert_leaves_nothing();
    }
}

#[test]
fn ctrl_c_ends_the_server() {
    if s3_is_there() {
        let parent = Parent::start("lasts");
        signal("-INT", format!("-{}", parent.child.id()));
        parent.assert_leaves_nothing();
    }
}

#[test]
fn a_panic_and_an_exit_end_the_server() {
    if s3_is_there() {
        Parent::start("panics").assert_leaves_nothing();
        Parent::start("exits").assert_leaves_nothing();
    }
}

#[test]
fn a_signal_to_the_guard_ends_the_server_while_the_test_lasts() {
    if s3_is_there() {
        for how in ["-TERM", "-INT", "-HUP"] {
            let mut parent = Parent::start("lasts");
            signal(how, parent.guard);
            wait_until("the folder is removed", || !Path::new(&parent.folder).exists());
            parent.child.kill().unwrap();
            parent.assert_leaves_nothing();
        }
    }
}

#[test]
fn no_server_outlives_a_guard_that_is_killed() {
    let Some(server) = S3Server::start() else { return };
    let folder = run_folder(server.data());
    signal("-KILL", server.guard());
    wait_until("its servers are gone", || processes_of(&folder).is_empty());
    std::fs::remove_dir_all(folder).unwrap();
}

/// A process that starts `scripts/services run s3 -- <a command that lasts>`, as `make` starts `scripts/test`: itself, the
/// command's process group, and the server's folder and guard.
fn caller_of_run() -> (Child, u32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
    // The command's own child is what an interrupted run would leave behind.
    let lasting = r#"echo "command $$ $ICECORE_TEST_S3_ENDPOINT"; sleep 600 & sleep 600"#;
    let mut caller = Command::new("bash")
        .args(["-c", r#""$0" run s3 -- bash -c "$1"; true"#])
        .arg(script)
        .arg(lasting)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = BufReader::new(caller.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.into_iter().find_map(|line| line.strip_prefix("command ").map(str::to_owned)).expect("it runs");
    let (group, endpoint) = told.split_once(' ').unwrap();
    (caller, group.parse().unwrap(), endpoint.trim_start_matches("http://").to_owned())
}

/// Whether a process of this group still runs.
fn group_lives(group: u32) -> bool {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok()).any(|stat| {
        // State, parent and group follow the name, which stands in brackets.
        let words: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        words[0] != "Z" && words[2] == group.to_string()
    })
}

#[test]
fn an_interrupted_run_leaves_neither_its_command_nor_its_servers() {
    if !s3_is_there() {
        return;
    }
    // The caller killed (`make`), the runner killed, and Ctrl-C to both.
    for how in ["caller", "runner", "group"] {
        let (mut caller, group, address) = caller_of_run();
        assert!(listens(&address) && group_lives(group));
        match how {
            "caller" => caller.kill().unwrap(),
            "runner" => {
                let children = format!("/proc/{0}/task/{0}/children", caller.id());
                signal("-KILL", std::fs::read_to_string(children).unwrap().trim());
            }
            _ => signal("-INT", format!("-{}", caller.id())),
        }
        caller.wait().unwrap();
        wait_until(&format!("{how}: the command is gone"), || !group_lives(group));
        wait_until(&format!("{how}: the server is gone"), || !listens(&address));
    }
}

#[test]
fn a_run_ends_as_its_command_does() {
    if s3_is_there() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
        let run = Command::new(script).args(["run", "s3", "--", "bash", "-c", "exit 7"]).status().unwrap();
        assert_eq!(run.code(), Some(7));
    }
}
