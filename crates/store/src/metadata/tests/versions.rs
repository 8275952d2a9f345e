//! Every version of the schema that was ever released opens here.
//!
//! `fixtures/metadata-vN.sql` is the dump of a database of version N. A new version needs one of its own: without it
//! these tests fail. `cargo test -p haul-store -- --ignored dump_the_newest_version` writes it.

use std::fmt::Write as _;
use std::path::PathBuf;

use rusqlite::Connection;

use super::*;

/// The digests of the released migrations: a released file never changes.
const RELEASED: [&str; 5] = [
    "42166769fe9532f2069d0a0303e6aac258680cf14877da7d65b83d22a454dc8c",
    "c05a76c38d96008751ad29e23e6d26534ec0301eeca5bbccacb36f569a018538",
    "68ab5e4a7692d67b46bb53e3d0ae3ddbe3870f99369f1ad1a2b913a5e967db56",
    "d937e1a3932098d1cb1a7f5373110f0ca965294d4918e052dda3524cefb216f3",
    "fcd97d10bd65ffc9bdb469a9fd68cbd20c64a51c3bdbd59f7b75929bd18e3796",
];
/// The first version that has tokens and nodes.
const WITH_IDENTITY: u32 = 2;
/// The first version that has targets, and what nodes have.
const WITH_FLEET: u32 = 3;
/// The first version whose jobs are somebody's.
const WITH_OWNERS: u32 = 4;

fn fixture_path(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/metadata-v{version}.sql"))
}

fn fixture(version: u32) -> String {
    let path = fixture_path(version);
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "version {version} of the schema needs a dump at {}: {error}",
            path.display()
        )
    })
}

/// What a dump of this version holds.
fn expected(version: u32) -> (JobRecord, Vec<TaskRecord>) {
    let mut row = job(77);
    (row.state, row.counts) = (TaskState::Running, TaskCounts([3, 0, 1, 0, 1, 0, 0]));
    row.owner = (version >= WITH_OWNERS).then(|| "ada".to_owned());
    (
        row,
        vec![task(77, 0, TaskState::Succeeded), task(77, 3, TaskState::Running)],
    )
}

/// What dumps hold besides, from the version on that has them.
fn identities() -> (Vec<TokenRecord>, Vec<EnrolledNode>) {
    let token = TokenRecord {
        used: Some(TokenUse {
            at_unix_ms: identity::NOW,
            by: identity::node("box", 1).id,
        }),
        ..identity::token("a", haul_types::Role::Agent)
    };
    (vec![token], vec![identity::node("box", 1)])
}

#[test]
fn every_version_migrates() {
    for version in 1..=SCHEMA.newest() {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join(FILE_NAME)).unwrap();
        connection.execute_batch(&fixture(version)).unwrap();
        let stored: u32 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stored, version, "the dump is of another version");
        drop(connection);

        let store = Metadata::open(directory.path()).unwrap();
        let (job, tasks) = expected(version);
        assert_eq!(store.job(job.id).unwrap(), Some(job.clone()), "version {version}");
        assert_eq!(
            store.tasks(job.id, &tasks_from(0, 9, &[])).unwrap(),
            tasks,
            "version {version}"
        );
        if version >= WITH_FLEET {
            assert_eq!(store.nodes().unwrap(), [node("box1")], "version {version}");
            assert_eq!(store.targets().unwrap(), [target("gpu")], "version {version}");
        }
        assert_eq!(store.live_snapshots(5).unwrap().len(), 3, "version {version}");
        let (tokens, nodes) = if version < WITH_IDENTITY {
            (vec![], vec![])
        } else {
            identities()
        };
        assert_eq!(store.tokens().unwrap(), tokens, "version {version}");
        assert_eq!(store.enrolled_nodes().unwrap(), nodes, "version {version}");
        assert_eq!(store.check().unwrap(), Vec::<String>::new(), "version {version}");
        // Migrated is the same as made anew.
        assert_eq!(
            schema_of(directory.path()),
            schema_of(open().0.path()),
            "version {version}"
        );
    }
}

fn schema_of(directory: &Path) -> Vec<(String, String)> {
    let connection = Connection::open(directory.join(FILE_NAME)).unwrap();
    let mut statement = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        .unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn released_migrations_have_not_changed() {
    let digests: Vec<_> = SCHEMA
        .migrations
        .iter()
        .map(|sql| Digest::of(sql.as_bytes()).to_string())
        .collect();
    assert_eq!(
        digests, RELEASED,
        "change the schema by a new file, and add its digest here"
    );
}

#[test]
fn a_newer_schema_is_refused_in_words_and_left_alone() {
    let (directory, store) = open();
    drop(store);
    let connection = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    connection
        .pragma_update(None, "user_version", SCHEMA.newest() + 1)
        .unwrap();
    drop(connection);
    for _ in 0..2 {
        let error = Metadata::open(directory.path()).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::NewerSchema {
                    found,
                    known,
                    ..
                } if found == SCHEMA.newest() + 1 && known == SCHEMA.newest()
            ),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("run the newer Haul that wrote it"),
            "{error}"
        );
    }
}

#[test]
#[ignore = "writes a fixture: once for each new version of the schema"]
fn dump_the_newest_version() {
    let (directory, store) = open();
    let (job, tasks) = expected(SCHEMA.newest());
    let mut ops = vec![Op::InsertJob(job)];
    ops.extend(tasks.into_iter().map(Op::PutTask));
    ops.extend([Op::PutNode(node("box1")), Op::PutTarget(target("gpu"))]);
    ops.push(Op::PutSnapshotRef {
        root: Digest::of(b"uploaded"),
        until_unix_ms: 5,
    });
    let (tokens, nodes) = identities();
    let unused = tokens
        .into_iter()
        .map(|token| TokenRecord { used: None, ..token });
    ops.extend(unused.map(|token| Op::Identity(IdentityOp::PutToken(token))));
    let token = identity::token("a", haul_types::Role::Agent).hash;
    ops.extend(
        nodes
            .into_iter()
            .map(|node| Op::Identity(IdentityOp::Enrol { token, node })),
    );
    commit(&store, ops).unwrap();
    drop(store);
    let path = fixture_path(SCHEMA.newest());
    assert!(
        !path.exists(),
        "{} is released: it does not change",
        path.display()
    );
    let connection = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    std::fs::write(path, dump(&connection)).unwrap();
}

/// A database as SQL: its version, its tables and their rows, then whatever else its schema has.
fn dump(connection: &Connection) -> String {
    let mut sql = format!(
        "PRAGMA user_version = {};\nPRAGMA foreign_keys = OFF;\n",
        SCHEMA.newest()
    );
    let mut statement = connection
        .prepare(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type <> 'table', name",
        )
        .unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    let things: Vec<(String, String, String)> = rows.map(Result::unwrap).collect();
    for (kind, name, create) in things {
        writeln!(sql, "{create};").unwrap();
        if kind != "table" {
            continue;
        }
        let mut statement = connection.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns: Vec<_> = statement
            .column_names()
            .map(|name| format!("quote({name})"))
            .collect();
        statement = connection
            .prepare(&format!("SELECT {} FROM {name}", columns.join(" || ',' || ")))
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for row in rows {
            writeln!(sql, "INSERT INTO {name} VALUES ({});", row.unwrap()).unwrap();
        }
    }
    sql
}
