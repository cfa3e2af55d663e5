//! Every vector is run through the crate, and made again and compared with the committed one.
//! `HOLDALL_WRITE_VECTORS=1` writes the files anew: after a change of the format, and only then.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::cases::{Class, Group};
use crate::groups::GROUPS;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("format-spec/vectors")
}

fn lists_mut(file: &mut Value) -> impl Iterator<Item = (&String, &mut Vec<Value>)> {
    let fields = file.as_object_mut().unwrap().iter_mut();
    fields.filter_map(|(name, value)| Some((name, value.as_array_mut()?)))
}

fn lists(file: &Value) -> impl Iterator<Item = (&String, &Vec<Value>)> {
    file.as_object().unwrap().iter().filter_map(|(name, value)| Some((name, value.as_array()?)))
}

/// The file as it is to be, results included.
fn made(group: &Group) -> Value {
    let mut file = (group.make)();
    let shared = file.clone();
    file["about"] = group.about.into();
    for (list, cases) in lists_mut(&mut file) {
        for case in cases.iter_mut().filter(|c| c["expect"] == "ok" && c["result"].is_null()) {
            let outcome = (group.run)(&shared, list, case);
            case["result"] =
                outcome.unwrap_or_else(|c| panic!("{} {}: {c:?}", group.file, case["name"]));
        }
    }
    file
}

fn committed(group: &Group) -> Value {
    let path = directory().join(group.file).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// Bytes that a compressor made are another's with the next release of it.
fn without_compressed(mut file: Value) -> Value {
    for (_, cases) in lists_mut(&mut file) {
        for case in cases {
            let Some(fields) = case["compressed"].as_array().cloned() else { continue };
            for field in fields {
                case.as_object_mut().unwrap().remove(field.as_str().unwrap());
            }
        }
    }
    file
}

fn is_to_be_written() -> bool {
    std::env::var_os("HOLDALL_WRITE_VECTORS").is_some()
}

#[test]
fn committed_vectors_are_what_the_code_says() {
    let mut count = 0;
    for group in GROUPS {
        if is_to_be_written() {
            let text = serde_json::to_string_pretty(&made(group)).unwrap() + "\n";
            std::fs::write(directory().join(group.file).with_extension("json"), text).unwrap();
        }
        let file = committed(group);
        for (list, cases) in lists(&file) {
            assert!(!cases.is_empty(), "{} {list}", group.file);
            for case in cases {
                let at = format!("{}.json, {list}: {}", group.file, case["name"]);
                let outcome = (group.run)(&file, list, case);
                match case["expect"].as_str() {
                    Some("ok") => assert_eq!(outcome, Ok(case["result"].clone()), "{at}"),
                    Some(class) => assert_eq!(outcome.map_err(|Class(c)| c), Err(class), "{at}"),
                    None => panic!("{at}: nothing is expected"),
                }
                count += 1;
            }
        }
    }
    assert!(count > 200, "only {count} vectors were run");
}

#[test]
fn vectors_made_again_are_the_committed_ones() {
    for group in GROUPS {
        let (again, before) =
            (without_compressed(made(group)), without_compressed(committed(group)));
        assert!(again == before, "{}.json is not what would be made now", group.file);
    }
}

#[test]
fn every_file_is_run_and_named_by_a_chapter() {
    let on_disk: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known: BTreeSet<String> = GROUPS.iter().map(|g| format!("{}.json", g.file)).collect();
    assert_eq!(on_disk, known);
    let chapters: String = std::fs::read_dir(directory().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for name in known {
        assert!(chapters.contains(&format!("vectors/{name}")), "no chapter names {name}");
    }
}

#[test]
fn names_of_cases_are_their_own_and_classes_are_in_the_readme() {
    let readme = std::fs::read_to_string(directory().with_file_name("README.md")).unwrap();
    for group in GROUPS {
        for (list, cases) in lists(&committed(group)) {
            let mut seen = BTreeSet::new();
            for case in cases {
                let name = case["name"].as_str().unwrap().to_owned();
                assert!(seen.insert(name.clone()), "{} {list}: {name} twice", group.file);
                let class = case["expect"].as_str().unwrap();
                assert!(class == "ok" || readme.contains(&format!("| `{class}` |")), "{class}");
            }
        }
    }
}
