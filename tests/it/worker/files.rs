//! Scores written to a file instead of the platform; and nothing anywhere that tells who a customer is.

use scoreline::sinks::{FileFormat, FileSettings, FileSink, ProfilePlace};
use scoreline_simulator::Party;

use super::end_to_end::centre;
use super::line::Line;
use crate::ground::Ground;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_gets_one_line_for_each_change_and_no_name() {
    let (ground, desk) = (Ground::sqlite(), centre(40));
    let store = ground.open().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scores.ndjson");
    let sink = FileSink::open(FileSettings { path: path.clone(), format: FileFormat::Ndjson }).expect("opens");
    let line = Line::writing_to(&desk, &store, "one", &desk.client(), ProfilePlace::File(sink));
    let (.., rescored, written) = line.run().await;
    assert_eq!(written.written, rescored.customers);
    line.run().await;
    line.change_model();
    let changed = line.score().await.wishes;
    line.write().await;
    let text = std::fs::read_to_string(&path).expect("readable");
    assert_eq!(text.lines().count() as u64, written.written + changed);
    assert!(desk.simulator.profiles().is_empty(), "nothing on the platform");
    store.close().await;

    // What customers are called on the platform, in text and as bytes.
    let mut kept: Vec<(String, Vec<u8>)> = vec![("score file".to_owned(), text.into_bytes())];
    let store_folder = ground.path().parent().expect("a folder").to_owned();
    for entry in std::fs::read_dir(store_folder).expect("readable") {
        let entry = entry.expect("readable").path();
        kept.push((entry.display().to_string(), std::fs::read(&entry).expect("readable")));
    }
    assert!(kept.len() > 1, "the store is among them");
    let mut looked_for = 0;
    for expected in desk.simulator.truth().interactions() {
        let Party::Contact { id, canonical } = &expected.party else { continue };
        for contact in [id, canonical] {
            let bytes = uuid::Uuid::try_parse(contact).map(|id| id.into_bytes().to_vec()).unwrap_or_default();
            for (name, kept) in &kept {
                for secret in [contact.as_bytes(), &bytes] {
                    let found = !secret.is_empty() && memchr::memmem::find(kept, secret).is_some();
                    assert!(!found, "{contact} is in {name}");
                    looked_for += 1;
                }
            }
        }
    }
    assert!(looked_for > 100, "{looked_for}");
    // What the simulator makes up of people: names, addresses, numbers, subjects, notes.
    for (name, kept) in &kept {
        assert!(memchr::memmem::find(kept, b"CANARY-").is_none(), "personal data is in {name}");
    }
}
