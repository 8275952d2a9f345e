//! Contracts that break one rule each, and what may not change.

use protox::file::{File, FileResolver};

use super::*;

/// Files that exist only here.
struct Sources(Vec<(String, String)>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let source = self.0.iter().find(|(known, _)| known == name);
        let (_, text) = source.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

fn compiled(files: &[(&str, &str)]) -> FileDescriptorSet {
    let sources = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let mut compiler = Compiler::with_file_resolver(Sources(sources.collect()));
    compiler.include_source_info(true).include_imports(false);
    compiler.open_files(files.iter().map(|(name, _)| name)).unwrap();
    compiler.file_descriptor_set()
}

const GOOD: &str = r#"syntax = "proto3";
package demo.v1;
// Greets.
service GreetService {
  // Says hello.
  rpc Greet(GreetRequest) returns (stream GreetResponse);
}
// How loud.
enum GreetVolume {
  // Never sent.
  GREET_VOLUME_UNSPECIFIED = 0;
  // Softly.
  GREET_VOLUME_SOFT_2 = 1;
}
// Asks.
message GreetRequest {
  // Whom.
  repeated string names = 1;
  // How loud.
  optional GreetVolume volume = 2;
  // By name.
  map<string, uint32> ages = 3;
  // One of the two.
  oneof way {
    // By word.
    string word = 4;
    // By wave.
    bool wave = 5;
  }
}
// Answers.
message GreetResponse {}
"#;

/// The rules that the contract breaks when `from` reads `to`, with their lines.
fn broken(from: &str, to: &str) -> Vec<(&'static str, usize)> {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    let findings = lint::lint(&compiled(&[("demo/v1/greet.proto", &text)]));
    findings
        .into_iter()
        .map(|finding| (finding.rule, finding.line))
        .collect()
}

#[test]
fn a_contract_by_the_rules_has_no_findings() {
    assert_eq!(lint::lint(&compiled(&[("demo/v1/greet.proto", GOOD)])), []);
}

#[test]
fn each_rule_finds_what_breaks_it() {
    let comment = |text: &str| broken(text, "");
    assert_eq!(
        broken("package demo.v1", "package demo.V1")[0].0,
        "PACKAGE_DIRECTORY_MATCH"
    );
    assert_eq!(
        broken("package demo.v1", "package demo"),
        [("PACKAGE_DIRECTORY_MATCH", 2), ("PACKAGE_VERSION_SUFFIX", 2)]
    );
    assert_eq!(comment("// Greets.\n"), [("COMMENT_SERVICE", 3)]);
    assert_eq!(comment("  // Says hello.\n"), [("COMMENT_RPC", 5)]);
    assert_eq!(comment("// How loud.\n"), [("COMMENT_ENUM", 8)]);
    assert_eq!(comment("  // Softly.\n"), [("COMMENT_ENUM_VALUE", 12)]);
    assert_eq!(comment("// Asks.\n"), [("COMMENT_MESSAGE", 15)]);
    assert_eq!(comment("  // Whom.\n"), [("COMMENT_FIELD", 17)]);
    assert_eq!(comment("  // One of the two.\n"), [("COMMENT_ONEOF", 23)]);
    assert_eq!(comment("    // By wave.\n"), [("COMMENT_FIELD", 27)]);
    assert_eq!(broken(" names ", " Names "), [("FIELD_LOWER_SNAKE_CASE", 18)]);
    assert_eq!(
        broken("oneof way", "oneof theWay"),
        [("ONEOF_LOWER_SNAKE_CASE", 24)]
    );
    assert_eq!(broken("GREET_VOLUME_SOFT_2", "SOFT"), [("ENUM_VALUE_PREFIX", 13)]);
    assert_eq!(
        broken("GREET_VOLUME_SOFT_2", "GREET_VOLUME_Soft"),
        [("ENUM_VALUE_UPPER_SNAKE_CASE", 13)]
    );
    assert_eq!(
        broken("GREET_VOLUME_UNSPECIFIED", "GREET_VOLUME_NONE"),
        [("ENUM_ZERO_VALUE_SUFFIX", 11)]
    );
    assert_eq!(
        broken("service GreetService", "service Greeter"),
        [("SERVICE_SUFFIX", 4)]
    );
    assert_eq!(
        broken("returns (stream GreetResponse)", "returns (stream GreetRequest)"),
        [
            ("RPC_REQUEST_RESPONSE_UNIQUE", 6),
            ("RPC_REQUEST_RESPONSE_UNIQUE", 6),
            ("RPC_RESPONSE_STANDARD_NAME", 6)
        ]
    );
    assert_eq!(
        broken("// Answers.\nmessage ", "// Answers.\nmessage Spare {}\nmessage "),
        [("COMMENT_MESSAGE", 33)]
    );
}

#[test]
fn an_import_must_be_used() {
    let other = "syntax = \"proto3\";\npackage demo.v1;\n// Spare.\nmessage Spare {}\n";
    let import = "package demo.v1;\nimport \"demo/v1/other.proto\";";
    let unused = GOOD.replacen("package demo.v1;", import, 1);
    let findings = lint::lint(&compiled(&[
        ("demo/v1/greet.proto", &unused),
        ("demo/v1/other.proto", other),
    ]));
    assert_eq!(
        findings
            .iter()
            .map(|finding| (finding.rule, finding.line))
            .collect::<Vec<_>>(),
        [("IMPORT_USED", 3)]
    );
    let used = unused.replacen("bool wave", "Spare wave", 1);
    assert_eq!(
        lint::lint(&compiled(&[
            ("demo/v1/greet.proto", &used),
            ("demo/v1/other.proto", other)
        ])),
        []
    );
}

#[test]
fn names_are_told_apart() {
    use names::*;
    assert!(
        is_lower_snake("a_b2") && !is_lower_snake("a__b") && !is_lower_snake("_a") && !is_lower_snake("aB")
    );
    assert!(is_pascal("JobSpec") && !is_pascal("Job_Spec") && !is_pascal("jobSpec") && !is_pascal(""));
    assert_eq!(upper_snake("StreamKind"), "STREAM_KIND");
    assert_eq!(upper_snake("HTTPCode"), "HTTP_CODE");
    assert!(has_version("haul.v1") && has_version("haul.v2beta1") && has_version("haul.v1alpha"));
    assert!(
        !has_version("haul") && !has_version("haul.v") && !has_version("haul.v0") && !has_version("haul.v1x")
    );
}

#[test]
fn the_surface_has_a_line_for_all_that_programs_rely_on() {
    let lines: Vec<String> = surface::surface(&compiled(&[("demo/v1/greet.proto", GOOD)]))
        .into_iter()
        .collect();
    assert_eq!(
        lines,
        [
            "demo.v1.GreetRequest.AgesEntry.key = 1: string",
            "demo.v1.GreetRequest.AgesEntry.value = 2: uint32",
            "demo.v1.GreetRequest.AgesEntry: message",
            "demo.v1.GreetRequest.ages = 3: repeated demo.v1.GreetRequest.AgesEntry",
            "demo.v1.GreetRequest.names = 1: repeated string",
            "demo.v1.GreetRequest.volume = 2: optional demo.v1.GreetVolume",
            "demo.v1.GreetRequest.wave = 5: bool, one of way",
            "demo.v1.GreetRequest.word = 4: string, one of way",
            "demo.v1.GreetRequest: message",
            "demo.v1.GreetResponse: message",
            "demo.v1.GreetService.Greet: demo.v1.GreetRequest -> stream demo.v1.GreetResponse",
            "demo.v1.GreetVolume.GREET_VOLUME_SOFT_2 = 1",
            "demo.v1.GreetVolume.GREET_VOLUME_UNSPECIFIED = 0",
            "demo.v1.GreetVolume: enum",
        ]
    );
}

#[test]
fn a_changed_number_breaks_and_a_new_field_does_not() {
    let lines = |text: &str| surface::surface(&compiled(&[("demo/v1/greet.proto", text)]));
    let before = lines(GOOD);
    let changed = Difference::between(&before, &lines(&GOOD.replacen("names = 1", "names = 9", 1)));
    assert_eq!(changed.gone, ["demo.v1.GreetRequest.names = 1: repeated string"]);
    let grown = Difference::between(
        &before,
        &lines(&GOOD.replacen("bool wave = 5;", "bool wave = 5;\nbool nod = 6;", 1)),
    );
    assert_eq!(
        (grown.gone.len(), grown.new.as_slice()),
        (
            0,
            &["demo.v1.GreetRequest.nod = 6: bool, one of way".to_owned()][..]
        )
    );
}
