//! What is wrong between machines: each is refused, and says what it is and what to do about it.

use haul_tests::{Ended, Machine, Network, Side, Signal};

/// Insists that it failed, and that what it said has all of these, whatever words are around them.
#[track_caller]
fn refused(ended: &Ended, words: &[&str]) {
    let said = format!("{}{}", ended.out(), ended.err());
    assert_ne!(ended.code(), 0, "{}: {said}", ended.what);
    for word in words {
        let any = word.split('|').any(|word| said.to_lowercase().contains(word));
        assert!(any, "{} should speak of {word:?}; it said:\n{said}", ended.what);
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[track_caller]
fn joining(machine: &Machine, token: &str, words: &[&str]) {
    let ended = machine.command(["haul-agent", "join", token]).run();
    refused(&ended, words);
}

fn machines() -> Option<Network> {
    crate::network(&[
        ("hub", Side::Outer),
        ("box", Side::Outer),
        ("other", Side::Outer),
        ("laptop", Side::Outer),
    ])
}

#[test]
fn tokens_that_are_no_good_say_why() {
    let Some(network) = machines() else { return };
    let [hub, box_, other, laptop] = ["hub", "box", "other", "laptop"].map(|name| network.machine(name));
    let (serving, admin) = crate::controller(hub);
    crate::log_in(laptop, &admin);
    let mint = |words: &str| crate::token(laptop, &format!("haul token create {words}"));

    let used = mint("--role agent");
    box_.command(["haul-agent", "join", &used]).run().ok();
    joining(
        other,
        &used,
        &["used|already", "new token|another token|token create"],
    );

    let short = mint("--role agent --expires 1ms");
    joining(other, &short, &["expired", "new token|another|token create"]);

    let revoked = mint("--role agent");
    let id = crate::shell(laptop, "haul --json token ls").ok().json();
    let id = id["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .find(|token| token["role"] == "agent")
        .unwrap();
    let id = id["id"].as_str().unwrap();
    crate::shell(laptop, &format!("haul token revoke {id}")).ok();
    joining(other, &revoked, &["revoked", "new token|another|token create"]);

    let whole = mint("--role agent");
    let damaged = format!("{}x", &whole[..whole.len() - 1]);
    joining(
        other,
        &damaged,
        &["damaged|checksum|copied|mistyped", "copy|whole|again"],
    );
    joining(other, &whole[..40], &["token"]);
    joining(other, "haul9.abc", &["token"]);
    joining(
        other,
        &mint("--role viewer"),
        &["user", "token create --role agent"],
    );
    refused(
        &crate::shell(
            laptop,
            &format!("haul login --name x <<< {}", mint("--role agent")),
        ),
        &["join"],
    );

    // Two machines of one name.
    let second = mint("--role agent");
    let named = ["haul-agent", "join", &second, "--name", "box"];
    let ended = other.command(named).run();
    refused(&ended, &["box", "--replace|--name|another name"]);
    let replacing = mint("--role agent --replace box");
    let named = ["haul-agent", "join", &replacing, "--name", "box"];
    other.command(named).run().ok();
    let outdated = box_.command(["haul-agent"]).start();
    outdated.wait_for_stderr("join");

    // Another controller at the address that a token names.
    let foreign = mint("--role agent");
    let user = mint("--role submitter --name ada");
    serving.signal(Signal::TERM);
    serving.end().ok();
    crate::token(hub, "haul-controller init --state-dir second --address hub:7070");
    let impostor = hub.command(["haul-controller", "--state-dir", "second"]).start();
    impostor.wait_for_stderr("serving");
    let fresh = other.command(["haul-agent", "join", &foreign, "--state-dir", "fresh"]);
    refused(
        &fresh.run(),
        &["not the controller|another controller", "new token|address"],
    );
    refused(
        &crate::shell(laptop, &format!("haul login --name x <<< {user}")),
        &["not the controller|another controller", "new token|address"],
    );
    refused(
        &crate::shell(laptop, "haul jobs"),
        &["another controller|authority", "log in again|new token"],
    );
    let agent = other.command(["haul-agent"]).start();
    agent.wait_for_stderr("authority");
}

#[test]
fn places_that_are_taken_and_callers_that_may_not_say_so() {
    let Some(network) = machines() else { return };
    let [hub, box_, other, laptop] = ["hub", "box", "other", "laptop"].map(|name| network.machine(name));
    let (_serving, admin) = crate::controller(hub);
    crate::log_in(laptop, &admin);
    let mint = |words: &str| crate::token(laptop, &format!("haul token create {words}"));

    crate::token(hub, "haul-controller init --state-dir second --address hub:7070");
    refused(
        &crate::shell(hub, "haul-controller --state-dir second"),
        &["7070", "another program has the port", "stop it|choose"],
    );
    refused(
        &crate::shell(hub, "haul-controller --state-dir haul"),
        &["another|in use|already"],
    );
    refused(
        &crate::shell(hub, "haul-controller init --state-dir haul --address hub:7070"),
        &["already|there is"],
    );

    // Somebody else's.
    let stranger = "setpriv --reuid 65534 --regid 65534 --clear-groups --";
    refused(
        &crate::shell(
            hub,
            &format!("chmod 755 . .. && {stranger} haul-controller --state-dir $PWD/haul"),
        ),
        &["haul", "belongs to the user", "run as that user"],
    );
    let _agent = crate::join(box_, &mint("--role agent"));
    refused(
        &crate::shell(
            box_,
            &format!("{stranger} haul-agent --state-dir /var/lib/haul-agent"),
        ),
        &["haul-agent", "belongs to the user", "run as that user"],
    );
    refused(&crate::shell(box_, "haul-agent"), &["another agent|uses|in use"]);
    refused(&crate::shell(other, "haul-agent"), &["join"]);
    refused(
        &crate::shell(box_, "haul-agent --node else --socket none"),
        &["another agent|uses|in use|join"],
    );

    // Users.
    crate::log_in(other, &mint("--role viewer --name eve"));
    crate::shell(other, "haul node ls && haul jobs").ok();
    refused(&crate::shell(other, "haul run -- true"), &["viewer", "submitter"]);
    refused(&crate::shell(other, "haul node drain box"), &["viewer", "admin"]);
    refused(
        &crate::shell(other, "haul token create --role admin"),
        &["viewer", "admin"],
    );
    let bound = mint("--role submitter --name ci --target box");
    crate::log_in(other, &bound);
    refused(&crate::shell(other, "haul run --target other -- true"), &["box"]);
    crate::shell(other, "haul --context local context rm hub").ok();
    refused(
        &crate::shell(other, "haul --context hub jobs"),
        &["hub", "haul login|context"],
    );
    let id = crate::shell(laptop, "haul --json token ls").ok().json();
    let id = id["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["name"] == "ci");
    let id = id.unwrap()["id"].as_str().unwrap().to_owned();
    crate::shell(laptop, &format!("haul token revoke {id}")).ok();
    refused(
        &crate::shell(other, &format!("HAUL_TOKEN={bound} haul jobs")),
        &["token", "revoked|not known|no good|ask|log in"],
    );
    refused(
        &crate::shell(laptop, "haul run --target nowhere -- true"),
        &["nowhere"],
    );
    refused(
        &crate::shell(laptop, "HTTPS_PROXY=socks5://hub:1 haul jobs"),
        &["https_proxy", "http"],
    );
    refused(
        &crate::shell(laptop, "HTTPS_PROXY=http://box:3128 haul jobs"),
        &["box:3128", "connect"],
    );
    refused(
        &crate::shell(
            laptop,
            "haul-agent join $(haul token create --role agent | tr -d '\\n')y",
        ),
        &["token"],
    );
}
