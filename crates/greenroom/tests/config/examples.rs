//! The examples that users start from are valid, and say what the documentation says of them.

use std::path::Path;

use greenroom::config::{Flags, Layers, Purpose, Secrets, load};

#[test]
fn each_example_is_valid_and_can_be_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut count = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(index.contains(name), "examples/README.md does not name {name}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#:schema "), "{name} does not begin with its schema");
        // As its first use says it: with processes for run, without for serve.
        let purpose = match (
            text.contains("greenroom run --config"),
            text.contains("greenroom serve --config"),
        ) {
            (true, false) => Purpose::Run,
            (false, true) => Purpose::Serve,
            _ => panic!("{name} does not say how to start it"),
        };
        let layers = Layers {
            file: Some(&path),
            variables: Vec::new(),
            flags: Flags::default(),
            purpose,
        };
        let loaded = load(&layers).unwrap_or_else(|invalid| panic!("{}", invalid.render(false)));
        assert!(
            loaded.explain(Secrets::Hidden).contains("routes, in the order"),
            "{name}"
        );
        count += 1;
    }
    assert!(count >= 6, "{count}");
}
