//! Any bytes are a configuration that survives print and parse, or problems that can be shown.
#![no_main]

use greenroom::config::{Flags, Layers, Purpose, Secrets, load_bytes, to_toml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let layers = Layers {
        file: None,
        variables: Vec::new(),
        flags: Flags::default(),
        purpose: Purpose::Check,
    };
    match load_bytes("fuzz.toml", bytes.to_vec(), &layers) {
        Ok(loaded) => {
            let _ = loaded.explain(Secrets::Hidden);
            let printed = to_toml(&loaded.config, Secrets::Shown);
            match load_bytes("printed.toml", printed.into_bytes(), &layers) {
                Ok(again) => assert_eq!(again.config, loaded.config),
                Err(invalid) => panic!("{}", invalid.render(false)),
            }
        }
        Err(invalid) => {
            assert!(invalid.count() > 0);
            let _ = (invalid.render(false), invalid.render(true));
        }
    }
});
