//! A shared controller and its agents over TLS, all on this machine: logging in, joining, shutting out, rotating.

use std::cell::RefCell;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use haul_tests::{Ended, Home, Signal, haul_binary};

/// A home with a shared controller that its user has logged in to as its admin.
struct Shared {
    home: Home,
    address: String,
    daemons: RefCell<Vec<Child>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.home.kill_all();
        for daemon in self.daemons.get_mut() {
            let _ = daemon.wait();
        }
    }
}

impl Shared {
    fn new(last: u8) -> Self {
        // All of 127/8 is this machine: each test has an address of its own, and no port has to be guessed to be free.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let home = Home::new();
        let shared = Self {
            address: format!("127.{}.{low}.{last}:7443", high.max(1)),
            home,
            daemons: RefCell::default(),
        };
        let made = shared
            .program("haul-controller")
            .args(["init", "--state-dir"])
            .arg(shared.home.path("shared"))
            .args(["--address", &shared.address])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(shared.home.path("admin.token"), made.stdout).unwrap();
        shared.start_controller();
        shared.login("admin.token", "lab").ok();
        shared
    }

    /// Another of Haul's programs, in this home.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(haul_binary().with_file_name(name));
        command
            .env("HOME", self.home.path("home"))
            .current_dir(self.home.project())
            .stdin(Stdio::null());
        command
    }

    fn start(&self, command: &mut Command, log: &str) {
        let log = File::create(self.home.path(log)).unwrap();
        let daemon = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.daemons.borrow_mut().push(daemon.unwrap());
    }

    fn start_controller(&self) {
        let mut command = self.program("haul-controller");
        command
            .arg("--state-dir")
            .arg(self.home.path("shared"))
            .args(["--listen", &self.address]);
        self.start(&mut command, "controller.log");
    }

    /// Retried while the controller starts.
    #[track_caller]
    fn login(&self, token: &str, name: &str) -> Ended {
        let words = ["login", "--name", name, "--token-file"].map(Into::into);
        let words: Vec<std::ffi::OsString> = words
            .into_iter()
            .chain([self.home.path(token).into_os_string()])
            .collect();
        let mut ended = self.home.run(&words);
        for _ in 0..100 {
            if ended.status.success() || !ended.err().contains("cannot reach") {
                break;
            }
            ended = self.home.run(&words);
        }
        ended
    }

    #[track_caller]
    fn token(&self, words: &[&str]) -> String {
        let create = ["token", "create"].iter().chain(words);
        self.home.run(create).ok().out().trim().to_owned()
    }

    #[track_caller]
    fn join(&self, token: &str, name: &str) -> std::process::Output {
        self.program("haul-agent")
            .args(["join", token, "--name", name, "--state-dir"])
            .arg(self.home.path(name))
            .output()
            .unwrap()
    }

    /// A machine that joins, and its agent.
    #[track_caller]
    fn add(&self, name: &str, words: &[&str]) {
        let token = self.token(&[&["--role", "agent"], words].concat());
        let joined = self.join(&token, name);
        assert!(
            joined.status.success(),
            "{}",
            String::from_utf8_lossy(&joined.stderr)
        );
        let mut command = self.program("haul-agent");
        command.arg("--state-dir").arg(self.home.path(name));
        self.start(&mut command, &format!("{name}.log"));
    }

    fn processes(&self, program: &str, of: &str) -> Vec<haul_tests::Process> {
        let mut all = self.home.processes();
        let (program, of) = (format!("/{program} "), format!("/{of}"));
        all.retain(|process| process.words.contains(&program) && process.words.contains(&of));
        all
    }
}

#[test]
fn a_machine_joins_into_a_target_and_runs_jobs_for_users_that_log_in() {
    let shared = Shared::new(2);
    shared.add("box1", &[]);
    shared.add("box2", &["--target", "gpu", "--label", "gpu=a100"]);
    let home = &shared.home;
    let here = home.run([
        "run",
        "-q",
        "--target",
        "gpu",
        "--",
        "sh",
        "-c",
        "echo ran; exit 7",
    ]);
    assert_eq!(here.expect_code(7).out(), "ran\n");
    assert_eq!(home.json(["show", "last"])["tasks"][0]["node"], "box2");
    assert_eq!(home.json(["node", "show", "box2"])["labels"]["gpu"], "a100");

    // By the token alone, with nothing kept; and only as far as its role goes.
    let viewer = shared.token(&["--role", "viewer", "--name", "dashboard"]);
    let command = |words: &[&str]| home.haul(words).with("HAUL_TOKEN", &viewer).run();
    assert!(command(&["jobs"]).ok().out().contains("sh"));
    let refused = command(&["run", "--", "true"]).expect_code(2);
    assert!(
        refused.err().contains("dashboard is a viewer"),
        "{}",
        refused.err()
    );

    // `local` is always there, and is another world.
    home.run(["context", "use", "local"]).ok();
    assert_eq!(home.jobs(), 0);
    let contexts = home.json(["context", "ls"]);
    assert_eq!(contexts["contexts"][1]["name"], "lab");
    assert_eq!(
        home.json(["--context", "lab", "jobs"])["jobs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let unknown = home.run(["--context", "lap", "jobs"]).expect_code(2);
    assert!(
        unknown.err().contains("there are local, lab"),
        "{}",
        unknown.err()
    );
}

#[test]
fn a_node_that_is_shut_out_is_out_at_once_and_so_are_its_jobs() {
    let shared = Shared::new(3);
    shared.add("box1", &[]);
    let home = &shared.home;
    let running = home
        .haul(["run", "--", "sh", "-c", "echo up; exec sleep 300"])
        .start();
    running.wait_for_stdout("up");
    home.run(["node", "revoke", "box1"]).ok();
    let ended = running.end().expect_code(125);
    assert!(
        ended.err().contains("lost") || ended.err().contains("removed"),
        "{}",
        ended.err()
    );
    for job in home
        .processes()
        .into_iter()
        .filter(|process| process.words.contains("sleep 300"))
    {
        assert!(
            job.is_gone_within(Duration::from_secs(20)),
            "its process outlives its job"
        );
    }
    assert_eq!(home.run(["node", "ls", "--quiet"]).ok().out(), "");
    // The machine comes back by a token only.
    for agent in shared.processes("haul-agent", "box1") {
        agent.signal(Signal::TERM);
        assert!(agent.is_gone_within(Duration::from_secs(10)));
    }
    let said = std::fs::read_to_string(home.path("box1.log")).unwrap();
    assert!(said.contains("was revoked here"), "{said}");
    std::fs::remove_dir_all(home.path("box1/identity")).unwrap();
    shared.add("box1", &[]);
    assert_eq!(
        home.run(["run", "-q", "--", "echo", "again"]).ok().out(),
        "again\n"
    );
}

#[test]
fn an_authority_is_changed_under_nodes_and_users() {
    let shared = Shared::new(4);
    shared.add("box1", &[]);
    let home = &shared.home;
    home.run(["run", "-q", "--", "true"]).ok();
    home.run(["authority", "begin"]).ok();
    home.run(["authority", "roll-back"]).ok();
    home.run(["authority", "begin"]).ok();
    // Somebody who uses it once in a while learns of the next one.
    let list = home.path("home/.config/haul/contexts.toml");
    let text = std::fs::read_to_string(&list).unwrap();
    let begin = text.find("asked_unix").unwrap();
    let end = begin + text[begin..].find('\n').unwrap();
    std::fs::write(&list, format!("{}asked_unix = 0{}", &text[..begin], &text[end..])).unwrap();
    home.run(["jobs"]).ok();
    home.run(["authority", "activate"]).ok();
    let early = home.run(["authority", "finish"]).expect_code(2);
    assert!(early.err().contains("use force"), "{}", early.err());
    home.run(["authority", "finish", "--force"]).ok();
    home.run(["jobs"]).ok();
    // A token of before names an authority that is no more.
    let old = shared.login("admin.token", "again").expect_code(2);
    assert!(old.err().contains("ask for a new token"), "{}", old.err());
}

#[test]
fn a_token_that_is_no_good_says_why() {
    let shared = Shared::new(5);
    let home = &shared.home;
    let token = shared.token(&["--role", "agent"]);
    let refused = |token: &str, name: &str, words: &str| {
        let output = shared.join(token, name);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    };
    refused(&token[..token.len() - 3], "box1", "cut off or mistyped");
    refused("haul2.AAAA", "box1", "newer");
    refused(&shared.token(&["--role", "viewer"]), "box1", "a user's");
    assert!(shared.join(&token, "box1").status.success());
    refused(&token, "box2", "used already");
    refused(&shared.token(&["--role", "agent"]), "box1", "join");
    let other = shared.token(&["--role", "agent"]);
    // A name that is enrolled is taken, from whatever machine.
    let output = shared
        .program("haul-agent")
        .args(["join", &other, "--name", "box1", "--state-dir"])
        .arg(home.path("elsewhere"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("box1 is enrolled already") && said.contains("--replace"),
        "{said}"
    );
}
