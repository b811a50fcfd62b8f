//! What librdkafka says.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use icecore::job::kafka::KafkaSourceOptions;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::kafka::cluster;

/// What was logged since the first call, by anybody in this process.
pub fn logged() -> &'static Mutex<Vec<String>> {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    &KEPT
        .get_or_init(|| {
            let kept = Kept::default();
            // Of the whole process, as tracing remembers of a line whether any thread wants it.
            tracing::subscriber::set_global_default(kept.clone()).unwrap();
            kept
        })
        .0
}

/// Keeps what librdkafka and the crate's own Kafka say, each with its target and fields.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
            && ["librdkafka", "icecore::job::kafka"].iter().any(|target| metadata.target().starts_with(target))
    }

    fn event(&self, event: &Event<'_>) {
        struct Fields(String);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0 += &format!(" {field}={value:?}");
            }
        }
        let mut fields = Fields(event.metadata().target().to_owned());
        event.record(&mut fields);
        self.0.lock().push(fields.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn what_librdkafka_logs_goes_to_tracing() {
    logged();
    let mut options = KafkaSourceOptions::new(cluster("127.0.0.1:2"), "a-topic");
    options.cluster.patience = Duration::from_secs(2);
    options.ends().unwrap_err();
    let is_it = |line: &&String| line.starts_with("librdkafka") && line.contains("127.0.0.1:2");
    let kept: Vec<String> = logged().lock().iter().filter(is_it).cloned().collect();
    assert!(kept.iter().any(|line| line.contains("Connection refused")), "{kept:?}");
}
