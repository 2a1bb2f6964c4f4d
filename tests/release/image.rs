//! The OCI image that holds the module: one that others' programs can read, in the form that Envoy's
//! control planes ask for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use testbed::module::built;

use crate::{EPOCH, output, program, tool};

const VERSION: &str = "1.2.3";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The tar of an image of the module, in that folder.
fn packed(folder: &Path) -> PathBuf {
    let image = folder.join("image.oci.tar");
    output(program("tools/oci-image.py").arg(built().unwrap()).arg(&image).args([
        "--version",
        VERSION,
        "--commit",
        COMMIT,
    ]));
    image
}

/// The same, unpacked.
fn layout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let image = packed(folder.path());
    output(Command::new("tar").arg("-xf").arg(image).arg("-C").arg(folder.path()));
    folder
}

/// The content that a descriptor points to, after its size and digest were compared.
fn content(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let content = fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&content)), digest);
    assert_eq!(descriptor["size"], content.len());
    content
}

fn document(layout: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&content(layout, descriptor)).unwrap()
}

#[test]
fn the_image_is_of_the_compat_variant_with_the_module_at_its_root() {
    let folder = layout();
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap() };
    assert_eq!(read("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));

    let index = read("index.json");
    let [tagged] = index["manifests"].as_array().unwrap().as_slice() else { panic!("{index}") };
    assert_eq!(tagged["annotations"]["org.opencontainers.image.ref.name"], VERSION);
    assert_eq!(tagged["mediaType"], "application/vnd.oci.image.index.v1+json");

    // One for each platform, which differ in the platform alone.
    let index = document(folder.path(), tagged);
    assert_eq!(index["mediaType"], tagged["mediaType"]);
    assert_eq!(index["annotations"]["org.opencontainers.image.revision"], COMMIT);
    let mut platforms = Vec::new();
    let mut layers = Vec::new();
    for image in index["manifests"].as_array().unwrap() {
        assert_eq!(image["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        let manifest = document(folder.path(), image);
        assert_eq!(manifest["annotations"]["module.wasm.image/variant"], "compat");
        assert_eq!(manifest["annotations"]["org.opencontainers.image.revision"], COMMIT);
        let config = document(folder.path(), &manifest["config"]);
        let platform = json!({ "architecture": config["architecture"], "os": config["os"] });
        assert_eq!(image["platform"], platform, "a node compares both");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        platforms.push(platform);
        layers.push((manifest["layers"].clone(), config["rootfs"]["diff_ids"].clone()));
    }
    let linux = |architecture: &str| json!({ "architecture": architecture, "os": "linux" });
    assert_eq!(platforms, [linux("amd64"), linux("arm64")]);
    assert_eq!(layers[0], layers[1]);

    let (layer, diff_ids) = &layers[0];
    let [layer] = layer.as_array().unwrap().as_slice() else { panic!("{layer}") };
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let packed = folder.path().join("layer");
    let compressed = content(folder.path(), layer);
    assert_eq!(compressed[3..8], [0; 5], "gzip's header has a name or a time");
    fs::write(&packed, compressed).unwrap();
    assert_eq!(output(Command::new("tar").arg("-tzf").arg(&packed)), "plugin.wasm\n");
    output(Command::new("tar").arg("-xzf").arg(&packed).arg("-C").arg(folder.path()));
    let plugin = folder.path().join("plugin.wasm");
    assert!(fs::read(&plugin).unwrap() == fs::read(built().unwrap()).unwrap(), "plugin.wasm is not the module");
    let modified = fs::metadata(&plugin).unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), EPOCH);
    let files = Command::new("gzip").arg("-dc").arg(&packed).output().unwrap().stdout;
    assert_eq!(*diff_ids, json!([format!("sha256:{}", hex::encode(Sha256::digest(files)))]));
}

#[test]
fn skopeo_and_umoci_read_the_image_on_each_platform() {
    let (Some(skopeo), Some(umoci)) = (tool("skopeo"), tool("umoci")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = format!("oci-archive:{}:{VERSION}", packed(folder.path()).display());
    // Unpacks it to read it, which is left behind in the folder for temporary files.
    let skopeo = || {
        let mut command = program(skopeo.to_str().unwrap());
        command.arg("--tmpdir").arg(folder.path()).arg("--insecure-policy");
        command
    };
    // Copied whole, as to a registry: what is referred to by its digest is the index.
    let whole = folder.path().join("whole");
    output(skopeo().args(["copy", "--all", &image, &format!("oci:{}:{VERSION}", whole.display())]));
    let digest = |layout: &Path| -> Value {
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        index["manifests"][0]["digest"].clone()
    };
    assert_eq!(digest(&whole), digest(layout().path()));

    for architecture in ["amd64", "arm64"] {
        let on = ["--override-os", "linux", "--override-arch", architecture];
        let seen: Value = serde_json::from_str(&output(skopeo().args(on).args(["inspect", &image]))).unwrap();
        assert_eq!(seen["Architecture"], architecture);
        assert_eq!(seen["Labels"]["org.opencontainers.image.version"], VERSION);
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 1);

        // Pulled by a machine of that platform, with every digest checked; then unpacked.
        let copied = format!("{}:{VERSION}", folder.path().join(architecture).display());
        output(skopeo().args(on).args(["copy", &image, &format!("oci:{copied}")]));
        let unpacked = folder.path().join(format!("{architecture}-unpacked"));
        output(program(umoci.to_str().unwrap()).args(["unpack", "--rootless", "--image", &copied]).arg(&unpacked));
        let root = fs::read_dir(unpacked.join("rootfs")).unwrap();
        let root: Vec<_> = root.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(root, ["plugin.wasm"]);
        let plugin = fs::read(unpacked.join("rootfs/plugin.wasm")).unwrap();
        assert!(plugin == fs::read(built().unwrap()).unwrap(), "plugin.wasm is not the module");
    }
    let elsewhere = skopeo().args(["--override-arch", "s390x", "inspect", &image]).output().unwrap();
    assert!(!elsewhere.status.success(), "skopeo does not choose by platform");
}

#[test]
fn the_same_module_makes_the_same_image() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(|folder| fs::read(packed(folder.path())).unwrap());
    assert!(first == second, "the two images differ");
}
