//! The list of capabilities in `envoy.yaml` is the module's own, no shorter and no longer: a missing
//! import ends in a panic, a missing callback in silence, and a name too many is a door left open.

use std::collections::BTreeSet;

use testbed::envoy::Bootstrap;
use testbed::module::built;
use wasmparser::{ExternalKind, Parser, Payload};

/// What the SDK exports and `envoy.yaml` does not list: callbacks that Envoy therefore never calls.
const LEFT_ALONE: [&str; 15] = [
    // For TCP, where the filter is not used.
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_upstream_connection_close",
    // Responses pass unread. The filter's own answers would come back through these as well.
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    // gRPC calls, of which the filter makes none.
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    // Extensions of a host, of which the filter uses none.
    "proxy_on_foreign_function",
    // No callbacks, and not subject to the list: the ABI's version, which is read off the name, and
    // what runs the module's constructors.
    "proxy_abi_version_0_2_1",
    "_initialize",
];

/// Largest module that is shipped, in bytes. Every worker holds and compiles a copy.
const MAX_MODULE_BYTES: usize = 400 * 1024;

struct Module {
    bytes: usize,
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

/// The functions that the built module imports and exports.
fn module() -> Module {
    let bytes = std::fs::read(built().unwrap()).unwrap();
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.unwrap();
                    assert!(["env", "wasi_snapshot_preview1"].contains(&import.module), "{import:?}");
                    imports.insert(import.name.to_owned());
                }
            }
            Payload::ExportSection(section) => {
                let functions = section.into_iter().map(Result::unwrap).filter(|e| e.kind == ExternalKind::Func);
                exports.extend(functions.map(|export| export.name.to_owned()));
            }
            _ => {}
        }
    }
    assert!(!imports.is_empty() && !exports.is_empty());
    Module { bytes: bytes.len(), imports, exports }
}

/// The names in `envoy.yaml`.
fn allowed() -> BTreeSet<String> {
    let bootstrap = Bootstrap::example().unwrap();
    let mut names = BTreeSet::new();
    let _ = bootstrap.edit_plugin(|plugin| {
        let allowed = &plugin["vm_config"]["capability_restriction_config"]["allowed_capabilities"];
        names.extend(allowed.as_object().expect("a list of capabilities").keys().cloned());
    });
    names
}

#[test]
fn every_import_is_allowed() {
    let (imports, allowed) = (module().imports, allowed());
    assert!(imports.is_subset(&allowed), "not allowed: {:?}", imports.difference(&allowed));
}

#[test]
fn every_name_allowed_is_the_modules() {
    let (module, allowed) = (module(), allowed());
    let known = &module.imports | &module.exports;
    assert!(allowed.is_subset(&known), "nothing of the module: {:?}", allowed.difference(&known));
}

#[test]
fn the_exports_that_are_not_allowed_are_those_that_the_filter_leaves_alone() {
    let left_out = &module().exports - &allowed();
    assert_eq!(left_out, LEFT_ALONE.map(str::to_owned).into());
}

#[test]
fn the_module_is_small() {
    let bytes = module().bytes;
    assert!(bytes < MAX_MODULE_BYTES, "{bytes} bytes");
}
