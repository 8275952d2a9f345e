//! What programs may rely on: every name, number and type of the contract, a line for each.
//!
//! The text is meant to be read in a diff: `haul.v1.JobSpec.command = 2: repeated string`. Comments, the order of
//! things and the file that they are in do not appear, for no program can tell.

use std::collections::BTreeSet;

use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
};

/// The lines of all files.
pub(super) fn surface(files: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in &files.file {
        let package = file.package();
        for message in &file.message_type {
            message_lines(package, message, &mut lines);
        }
        for enumeration in &file.enum_type {
            enum_lines(package, enumeration, &mut lines);
        }
        for service in &file.service {
            service_lines(package, service, &mut lines);
        }
    }
    lines
}

fn message_lines(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.insert(format!("{name}: message"));
    for field in &message.field {
        lines.insert(format!(
            "{name}.{} = {}: {}",
            field.name(),
            field.number(),
            field_type(message, field)
        ));
    }
    for nested in &message.nested_type {
        message_lines(&name, nested, lines);
    }
    for enumeration in &message.enum_type {
        enum_lines(&name, enumeration, lines);
    }
}

fn field_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut text = match field.label() {
        Label::Repeated => "repeated ".to_owned(),
        Label::Required => "required ".to_owned(),
        Label::Optional if field.proto3_optional() => "optional ".to_owned(),
        Label::Optional => String::new(),
    };
    text += &match field.r#type() {
        Type::Message | Type::Enum | Type::Group => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_ascii_lowercase(),
    };
    let oneof = field
        .oneof_index
        .filter(|_| !field.proto3_optional())
        .and_then(|index| usize::try_from(index).ok());
    if let Some(oneof) = oneof.and_then(|index| message.oneof_decl.get(index)) {
        text += &format!(", one of {}", oneof.name());
    }
    text
}

fn enum_lines(scope: &str, enumeration: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}.{}", enumeration.name());
    lines.insert(format!("{name}: enum"));
    for value in &enumeration.value {
        lines.insert(format!("{name}.{} = {}", value.name(), value.number()));
    }
}

fn service_lines(scope: &str, service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    let stream = |streams: bool| if streams { "stream " } else { "" };
    for rpc in &service.method {
        lines.insert(format!(
            "{scope}.{}.{}: {}{} -> {}{}",
            service.name(),
            rpc.name(),
            stream(rpc.client_streaming()),
            rpc.input_type().trim_start_matches('.'),
            stream(rpc.server_streaming()),
            rpc.output_type().trim_start_matches('.'),
        ));
    }
}
