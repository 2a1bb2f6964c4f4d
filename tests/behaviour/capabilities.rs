//! The list of capabilities in `envoy.yaml` is exactly what the module needs. If an import is missing,
//! the module panics; if a callback is missing, Envoy silently never calls it; and a superfluous name
//! allows what nobody needs.

use std::collections::BTreeSet;

use testbed::envoy::Bootstrap;
use testbed::module::built;
use wasmparser::{ExternalKind, Parser, Payload};

/// What the SDK exports and `envoy.yaml` does not list. Envoy therefore never calls these callbacks.
const UNUSED: [&str; 15] = [
    // TCP, for which the filter is not used.
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_upstream_connection_close",
    // Responses, which the filter does not read. Its own answers would pass through these as well.
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    // Replies to gRPC calls, which the filter does not make.
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    // Extensions of a host, which the filter does not use.
    "proxy_on_foreign_function",
    // Not callbacks, and not subject to the list: the name that tells the ABI's version, and the
    // function that runs the module's constructors.
    "proxy_abi_version_0_2_1",
    "_initialize",
];

/// Largest module that is shipped, in bytes. A tenth of it is what replicas need to share their record: the
/// codes of the values, and the dealings with Redis. A sixth is the price of being optimised for speed, which
/// saves a twelfth of a callback's cost.
const MAX_MODULE_BYTES: usize = 544 * 1024;

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
fn every_allowed_name_is_an_import_or_export_of_the_module() {
    let (module, allowed) = (module(), allowed());
    let known = &module.imports | &module.exports;
    assert!(allowed.is_subset(&known), "not in the module: {:?}", allowed.difference(&known));
}

#[test]
fn only_exports_that_the_filter_does_not_use_are_left_out() {
    let left_out = &module().exports - &allowed();
    assert_eq!(left_out, UNUSED.map(str::to_owned).into());
}

#[test]
fn the_module_is_small() {
    let bytes = module().bytes;
    assert!(bytes < MAX_MODULE_BYTES, "{bytes} bytes");
}
