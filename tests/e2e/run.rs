//! `haul run`: what runs, how it is told about its surroundings, and how it ends.

use haul_tests::Home;

#[test]
fn streams_stay_apart_and_the_exit_code_is_the_scripts() {
    let home = Home::new();
    home.write(
        "train.py",
        "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(41)\n",
    );
    let ended = home.run(["run", "--quiet", "train.py"]).expect_code(41);
    assert_eq!(ended.out(), "out\n");
    assert_eq!(ended.err(), "err\n");
}

#[test]
fn what_haul_says_itself_goes_to_standard_error() {
    let home = Home::new();
    home.script("ok.sh", "echo out");
    let ended = home.run(["run", "ok.sh"]).ok();
    assert_eq!(ended.out(), "out\n");
    let id = ended.err();
    let id = id
        .strip_prefix("job ")
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    assert_eq!(home.json(["show", "last"])["id"], id);
}

#[test]
fn a_signal_becomes_128_and_its_number() {
    let home = Home::new();
    home.run(["run", "--", "sh", "-c", "kill -USR1 $$"])
        .expect_code(138);
    home.run(["run", "--", "sh", "-c", "kill -KILL $$"])
        .expect_code(137);
    home.run(["run", "--", "sh", "-c", "exit 255"]).expect_code(255);
}

#[test]
fn plain_commands_run_with_their_words_as_they_are() {
    let home = Home::new();
    let words = ["a b", "--json", "-q", "*", "$HOME", "", "é\n"];
    let ended = home
        .run(["run", "-q", "--", "printf", "<%s>"].into_iter().chain(words))
        .ok();
    assert_eq!(ended.out(), words.map(|word| format!("<{word}>")).concat());
    home.script("prog", "echo \"${0##*/}: $@\"");
    let ended = home.run(["run", "-q", "--", "./prog", "--dir", "x"]).ok();
    assert_eq!(ended.out(), "prog: --dir x\n");
}

#[test]
fn options_after_the_script_are_the_scripts() {
    let home = Home::new();
    home.write("args.py", "import sys\nprint(sys.argv[1:])\n");
    let ended = home
        .run(["run", "-q", "args.py", "--timeout", "1", "--", "-d", "--env=X"])
        .ok();
    assert_eq!(ended.out(), "['--timeout', '1', '--', '-d', '--env=X']\n");
}

#[test]
fn scripts_of_every_kind_start() {
    let home = Home::new();
    home.write("plain.sh", "echo plain\n");
    home.write("line", "#!/usr/bin/env -S sh -e\necho line\n");
    home.write("python", "#!/usr/bin/env python3\nprint('python')\n");
    home.script("itself", "echo itself");
    home.write("-dash.py", "print('dash')\n");
    for (word, said) in [
        ("plain.sh", "plain\n"),
        ("line", "line\n"),
        ("python", "python\n"),
        ("itself", "itself\n"),
        ("./-dash.py", "dash\n"),
    ] {
        let ended = home.run(["run", "-q", word]).ok();
        assert_eq!(ended.out(), said, "{word}");
    }
}

#[test]
fn a_script_runs_in_its_own_directory_wherever_the_user_stands() {
    let home = Home::new();
    home.write(
        "pkg/deep/where.py",
        "import os\nnames = sorted(os.listdir())\nimport lib\nprint(names, lib.NAME)\n",
    );
    home.write("pkg/deep/lib.py", "NAME = 'lib'\n");
    home.write("pkg/data.txt", "data");
    let beside = home.run(["run", "-q", "pkg/deep/where.py"]).ok();
    assert_eq!(beside.out(), "['lib.py', 'logs', 'outputs', 'where.py'] lib\n");
    home.write("pkg/deep/up.py", "print(open('../data.txt').read())\n");
    let below = home.run(["run", "-q", "--dir", "pkg", "pkg/deep/up.py"]).ok();
    assert_eq!(below.out(), "data\n");
    let inside = home
        .haul(["run", "-q", "--dir", "..", "deep/up.py"])
        .from("pkg/deep")
        .run()
        .ok();
    assert_eq!(inside.out(), "data\n");
    // A plain command starts where the user stands.
    let plain = home
        .haul(["run", "-q", "--dir", "..", "--", "cat", "../data.txt"])
        .from("pkg/deep")
        .run()
        .ok();
    assert_eq!(plain.out(), "data");
}

#[test]
fn variables_are_set_passed_on_and_haul_s_own() {
    let home = Home::new();
    home.script("vars.sh", "env | sort > outputs/env; pwd");
    let ended = home
        .haul([
            "run", "-q", "-o", "--env", "A=1=2", "-e", "TOKEN", "-e", "EMPTY=", "vars.sh",
        ])
        .with("TOKEN", "s3cret é")
        .run()
        .ok();
    let env = std::fs::read_to_string(home.project().join("outputs/env")).unwrap();
    let value = |name: &str| {
        env.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("no {name} in\n{env}"))
    };
    let id = home.json(["show"])["id"].as_str().unwrap().to_owned();
    let outputs = format!("{}/outputs", ended.out().trim_end());
    for (name, expected) in [
        ("A", "1=2"),
        ("TOKEN", "s3cret é"),
        ("EMPTY", ""),
        ("HAUL_JOB_ID", &id),
        ("HAUL_ATTEMPT", "1"),
        ("HAUL_OUTPUT_DIR", &outputs),
        ("PYTHONUNBUFFERED", "1"),
        ("AZUREML_RUN_ID", &id),
        ("AZUREML_OUTPUT_DIRECTORY", &outputs),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[test]
fn standard_input_is_empty_and_outputs_and_logs_are_there() {
    let home = Home::new();
    home.script(
        "look.sh",
        "cat; ls -A outputs logs; echo x > outputs/x; echo y > logs/y",
    );
    let ended = home.run(["run", "-q", "look.sh"]).ok();
    assert_eq!(ended.out(), "logs:\n\noutputs:\n");
}

#[test]
fn a_program_that_cannot_start_is_126_and_says_why() {
    let home = Home::new();
    home.script("bad", "");
    home.write("bad", "#!/no/such/interpreter\n");
    let ended = home.run(["run", "./bad"]).expect_code(126);
    assert!(
        ended.err().contains("/no/such/interpreter") || ended.err().contains("bad"),
        "{}",
        ended.err()
    );
}

#[test]
fn the_end_says_once_how_it_was() {
    let home = Home::new();
    let ended = home.run(["run", "--", "sh", "-c", "exit 3"]).expect_code(3);
    let id = home.json(["show"])["id"].as_str().unwrap().to_owned();
    insta::assert_snapshot!(ended.err().replace(&id, "ID"), @r"
    job ID (sh)
    job ID failed: exit code 3; `haul show ID` tells more
    ");
}
