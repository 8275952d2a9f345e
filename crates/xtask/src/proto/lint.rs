//! The rules, named as buf names them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, FileDescriptorProto, FileDescriptorSet,
    MessageOptions, MethodDescriptorProto, ServiceDescriptorProto,
};

use super::names::{has_version, is_lower_snake, is_pascal, is_upper_snake, upper_snake};

/// A rule that something breaks.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// The file, relative to the contract's root.
    pub(super) file: String,
    /// The line, from 1.
    pub(super) line: usize,
    /// The rule, in buf's words.
    pub(super) rule: &'static str,
    /// What breaks it.
    pub(super) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.what)
    }
}

/// Every finding, by file and line.
pub(super) fn lint(files: &FileDescriptorSet) -> Vec<Finding> {
    let homes = homes(files);
    let mut findings = Vec::new();
    for file in &files.file {
        let mut lint = Lint::new(file);
        lint.file(&homes);
        findings.append(&mut lint.findings);
    }
    findings.extend(shared_messages(files));
    findings.sort();
    findings
}

/// Which file defines which type, by its full name with the dot in front, as references have it.
fn homes(files: &FileDescriptorSet) -> HashMap<String, &str> {
    fn message<'a>(
        scope: &str,
        message_type: &DescriptorProto,
        file: &'a str,
        homes: &mut HashMap<String, &'a str>,
    ) {
        let name = format!("{scope}.{}", message_type.name());
        for enumeration in &message_type.enum_type {
            homes.insert(format!("{name}.{}", enumeration.name()), file);
        }
        for nested in &message_type.nested_type {
            message(&name, nested, file, homes);
        }
        homes.insert(name, file);
    }
    let mut homes = HashMap::new();
    for file in &files.file {
        let scope = format!(".{}", file.package());
        for enumeration in &file.enum_type {
            homes.insert(format!("{scope}.{}", enumeration.name()), file.name());
        }
        for message_type in &file.message_type {
            message(&scope, message_type, file.name(), &mut homes);
        }
    }
    homes
}

/// Requests and responses that more than one rpc uses: neither could grow for one of them alone.
fn shared_messages(files: &FileDescriptorSet) -> Vec<Finding> {
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    let rpcs = || {
        files
            .file
            .iter()
            .flat_map(|file| file.service.iter().flat_map(|service| &service.method))
    };
    for rpc in rpcs() {
        *users.entry(rpc.input_type()).or_default() += 1;
        *users.entry(rpc.output_type()).or_default() += 1;
    }
    let mut findings = Vec::new();
    for file in &files.file {
        let lines = Lint::new(file);
        for (index, service) in file.service.iter().enumerate() {
            for (rpc_index, rpc) in service.method.iter().enumerate() {
                for used in [rpc.input_type(), rpc.output_type()] {
                    if users[used] > 1 {
                        findings.push(Finding {
                            file: file.name().to_owned(),
                            line: lines.line(&[6, number(index), 2, number(rpc_index)]),
                            rule: "RPC_REQUEST_RESPONSE_UNIQUE",
                            what: format!("{used} is used by more than one rpc"),
                        });
                    }
                }
            }
        }
    }
    findings
}

/// Indices in descriptors are as many as a file has lines.
fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// One file being looked at. Places are paths of field numbers and indices, as in `SourceCodeInfo`.
struct Lint<'a> {
    file: &'a FileDescriptorProto,
    /// Line and whether there is a comment, by place.
    places: HashMap<&'a [i32], (usize, bool)>,
    findings: Vec<Finding>,
}

impl<'a> Lint<'a> {
    fn new(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let places = locations.map(|location| {
            let line = location
                .span
                .first()
                .and_then(|&line| usize::try_from(line).ok())
                .unwrap_or(0)
                + 1;
            let said = |comment: &str| !comment.trim().is_empty();
            (
                location.path.as_slice(),
                (line, said(location.leading_comments())),
            )
        });
        Self {
            file,
            places: places.collect(),
            findings: Vec::new(),
        }
    }

    fn line(&self, place: &[i32]) -> usize {
        self.places.get(place).map_or(1, |&(line, _)| line)
    }

    fn require(&mut self, holds: bool, place: &[i32], rule: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.findings.push(Finding {
                file: self.file.name().to_owned(),
                line: self.line(place),
                rule,
                what: what(),
            });
        }
    }

    fn commented(&mut self, place: &[i32], rule: &'static str, name: &str) {
        let commented = self.places.get(place).is_some_and(|&(_, commented)| commented);
        self.require(commented, place, rule, || {
            format!("{name} has no comment above it")
        });
    }

    fn file(&mut self, homes: &HashMap<String, &str>) {
        let file = self.file;
        let (package, path) = (file.package(), file.name());
        let (directory, base) = path.rsplit_once('/').unwrap_or(("", path));
        let base = base.trim_end_matches(".proto");
        self.require(file.syntax() == "proto3", &[12], "SYNTAX_SPECIFIED", || {
            "syntax is not proto3".to_owned()
        });
        self.require(!package.is_empty(), &[2], "PACKAGE_DEFINED", || {
            "no package".to_owned()
        });
        let snake = package.split('.').all(is_lower_snake);
        self.require(snake, &[2], "PACKAGE_LOWER_SNAKE_CASE", || {
            format!("package {package}")
        });
        self.require(has_version(package), &[2], "PACKAGE_VERSION_SUFFIX", || {
            format!("package {package}")
        });
        let at_home = package.replace('.', "/") == directory;
        self.require(at_home, &[2], "PACKAGE_DIRECTORY_MATCH", || {
            format!("package {package} in {directory}")
        });
        self.require(is_lower_snake(base), &[], "FILE_LOWER_SNAKE_CASE", || {
            path.to_owned()
        });
        self.imports(homes);
        for (index, message) in file.message_type.iter().enumerate() {
            self.message(&[4, number(index)], message);
        }
        for (index, enumeration) in file.enum_type.iter().enumerate() {
            self.enumeration(&[5, number(index)], enumeration);
        }
        for (index, service) in file.service.iter().enumerate() {
            self.service(&[6, number(index)], service);
        }
    }

    fn imports(&mut self, homes: &HashMap<String, &str>) {
        let file = self.file;
        let mut used: HashSet<&str> = HashSet::new();
        let mut messages: Vec<&DescriptorProto> = file.message_type.iter().collect();
        while let Some(message) = messages.pop() {
            used.extend(
                message
                    .field
                    .iter()
                    .filter_map(|field| homes.get(field.type_name()).copied()),
            );
            messages.extend(&message.nested_type);
        }
        for rpc in file.service.iter().flat_map(|service| &service.method) {
            used.extend(
                [rpc.input_type(), rpc.output_type()]
                    .into_iter()
                    .filter_map(|name| homes.get(name).copied()),
            );
        }
        for (index, import) in file.dependency.iter().enumerate() {
            // Types of files that are not ours, as Google's, are not looked up; their import is taken to be used.
            let ours = homes.values().any(|home| home == import);
            let place = [3, number(index)];
            self.require(
                !ours || used.contains(import.as_str()),
                &place,
                "IMPORT_USED",
                || import.clone(),
            );
        }
        for &index in &file.public_dependency {
            self.require(false, &[3, index], "IMPORT_NO_PUBLIC", || {
                "a public import".to_owned()
            });
        }
        for &index in &file.weak_dependency {
            self.require(false, &[3, index], "IMPORT_NO_WEAK", || {
                "a weak import".to_owned()
            });
        }
    }

    fn message(&mut self, place: &[i32], message: &DescriptorProto) {
        // The compiler makes these from `map<K, V>`.
        if message.options.as_ref().is_some_and(MessageOptions::map_entry) {
            return;
        }
        let name = message.name();
        self.require(is_pascal(name), place, "MESSAGE_PASCAL_CASE", || {
            format!("message {name}")
        });
        self.commented(place, "COMMENT_MESSAGE", name);
        for (index, field) in message.field.iter().enumerate() {
            let place = [place, &[2, number(index)]].concat();
            let full = format!("{name}.{}", field.name());
            self.require(
                is_lower_snake(field.name()),
                &place,
                "FIELD_LOWER_SNAKE_CASE",
                || full.clone(),
            );
            self.require(
                field.label() != Label::Required,
                &place,
                "FIELD_NOT_REQUIRED",
                || full.clone(),
            );
            self.require(field.r#type() != Type::Group, &place, "FIELD_NO_GROUP", || {
                full.clone()
            });
            self.commented(&place, "COMMENT_FIELD", &full);
        }
        // An `optional` field stands in a oneof that the compiler makes for it, with an underscore in front.
        let optional = message.field.iter().filter(|field| field.proto3_optional());
        let made: HashSet<i32> = optional.filter_map(|field| field.oneof_index).collect();
        for (index, oneof) in message.oneof_decl.iter().enumerate() {
            if made.contains(&number(index)) {
                continue;
            }
            let place = [place, &[8, number(index)]].concat();
            let full = format!("{name}.{}", oneof.name());
            self.require(
                is_lower_snake(oneof.name()),
                &place,
                "ONEOF_LOWER_SNAKE_CASE",
                || full.clone(),
            );
            self.commented(&place, "COMMENT_ONEOF", &full);
        }
        for (index, nested) in message.nested_type.iter().enumerate() {
            self.message(&[place, &[3, number(index)]].concat(), nested);
        }
        for (index, enumeration) in message.enum_type.iter().enumerate() {
            self.enumeration(&[place, &[4, number(index)]].concat(), enumeration);
        }
    }

    fn enumeration(&mut self, place: &[i32], enumeration: &EnumDescriptorProto) {
        let name = enumeration.name();
        self.require(is_pascal(name), place, "ENUM_PASCAL_CASE", || {
            format!("enum {name}")
        });
        self.commented(place, "COMMENT_ENUM", name);
        let alias = enumeration.options.as_ref().is_some_and(EnumOptions::allow_alias);
        self.require(!alias, place, "ENUM_NO_ALLOW_ALIAS", || format!("enum {name}"));
        let prefix = upper_snake(name) + "_";
        for (index, value) in enumeration.value.iter().enumerate() {
            let place = [place, &[2, number(index)]].concat();
            let full = format!("{name}.{}", value.name());
            self.require(
                is_upper_snake(value.name()),
                &place,
                "ENUM_VALUE_UPPER_SNAKE_CASE",
                || full.clone(),
            );
            let prefixed = value.name().starts_with(&prefix);
            self.require(prefixed, &place, "ENUM_VALUE_PREFIX", || {
                format!("{full} does not begin with {prefix}")
            });
            let zero = value.number() != 0 || value.name().ends_with("_UNSPECIFIED");
            self.require(zero, &place, "ENUM_ZERO_VALUE_SUFFIX", || full.clone());
            self.require(
                index > 0 || value.number() == 0,
                &place,
                "ENUM_FIRST_VALUE_ZERO",
                || full.clone(),
            );
            self.commented(&place, "COMMENT_ENUM_VALUE", &full);
        }
    }

    fn service(&mut self, place: &[i32], service: &ServiceDescriptorProto) {
        let name = service.name();
        self.require(is_pascal(name), place, "SERVICE_PASCAL_CASE", || {
            format!("service {name}")
        });
        self.require(name.ends_with("Service"), place, "SERVICE_SUFFIX", || {
            format!("service {name}")
        });
        self.commented(place, "COMMENT_SERVICE", name);
        for (index, rpc) in service.method.iter().enumerate() {
            self.rpc(&[place, &[2, number(index)]].concat(), name, rpc);
        }
    }

    fn rpc(&mut self, place: &[i32], service: &str, rpc: &MethodDescriptorProto) {
        let name = rpc.name();
        self.require(is_pascal(name), place, "RPC_PASCAL_CASE", || {
            format!("rpc {service}.{name}")
        });
        self.commented(place, "COMMENT_RPC", &format!("{service}.{name}"));
        let ends = [
            (rpc.input_type(), "Request", "RPC_REQUEST_STANDARD_NAME"),
            (rpc.output_type(), "Response", "RPC_RESPONSE_STANDARD_NAME"),
        ];
        for (used, suffix, rule) in ends {
            let used = used.rsplit('.').next().unwrap_or_default();
            let standard = [format!("{name}{suffix}"), format!("{service}{name}{suffix}")];
            self.require(
                standard.iter().any(|standard| standard == used),
                place,
                rule,
                || format!("rpc {service}.{name} uses {used}"),
            );
        }
    }
}
