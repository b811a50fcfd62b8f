//! What a person sees and does.

use serde_json::Value;

use crate::browser::Browser;
use crate::command::{ended, moves_on, newest, run};
use crate::job::{Settings, Turn};
use crate::job_process::signal;

fn page_of(status: &Value) -> String {
    status["manager"]["holder"].as_str().unwrap().rsplit(' ').next().unwrap().to_owned()
}

const RUNNING: &str = "document.querySelector('[data-test=state]').dataset.state === 'running'";

const A_ROW_OF_GENERATION_3: &str = "[...document.querySelectorAll('[data-test=checkpoints-table] td[data-col=generation]')] \
    .some(cell => cell.textContent.trim() === '3')";

fn rows(table: &str) -> String {
    format!("document.querySelectorAll('[data-test={table}] tbody tr').length")
}

/// Nothing went wrong in the page, and nothing came from elsewhere.
fn assert_clean(browser: &Browser, page: &str) {
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    let is_own = |url: &&String| url.starts_with(page) || url.starts_with("data:");
    let others: Vec<&String> = browser.requests.iter().filter(|url| !is_own(url)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(browser.requests.iter().any(|url| url.ends_with("/api/job")), "{:?}", browser.requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_without_a_mouse_sees_the_job_and_rules_it() {
    let folder = Turn::come().await;
    let settings = Settings { is_rocksdb: true, ..Settings::new(folder.path(), 200_000, 1_000) };
    let Some(mut browser) = Browser::start() else { return };
    let mut job = run(&settings, &["--workers", "2"]);
    let status = moves_on(&settings, 1).await;
    let page = page_of(&status);
    browser.open(&page);

    assert_eq!(browser.text("job"), "count");
    browser.until(RUNNING);
    browser.until(&format!("{} === 2", rows("workers-table")));
    browser.until(&format!("{} >= 2", rows("checkpoints-table")));
    assert!(browser.text("restored-from").contains("nothing"), "{}", browser.text("restored-from"));
    assert_eq!(browser.value("document.querySelectorAll('[data-test=key-groups] [data-operator]').length"), 3);
    browser.until(
        "document.querySelector('[data-test=growth-chart] svg path, [data-test=growth-chart] svg polygon') !== null",
    );

    browser.tab_to("action-checkpoint");
    browser.press("Enter");
    browser.until("document.querySelector('[data-test=result-checkpoint]')?.dataset.phase === 'done'");
    assert!(browser.text("result-checkpoint").contains("is complete"), "{}", browser.text("result-checkpoint"));
    assert_eq!(browser.focused(), "action-checkpoint", "the focus stays where the person is");

    browser.tab_to("action-rescale");
    browser.press("Enter");
    browser.until("document.querySelector('[data-test=dialog-rescale]').open");
    browser.press("Escape");
    browser.until("!document.querySelector('[data-test=dialog-rescale]').open");
    assert_eq!(browser.focused(), "action-rescale");
    browser.press("Enter");
    assert_eq!(browser.focused(), "rescale-workers");
    browser.type_text("3");
    browser.press("Enter");
    browser.until(&format!("{RUNNING} && {} === 3", rows("workers-table")));
    assert_eq!(browser.text("generation"), "2");

    signal(job.workers()[0], "KILL");
    browser.until("document.querySelector('[data-test=events]').textContent.includes('failed')");
    browser.until(&format!("{RUNNING} && document.querySelector('[data-test=generation]').textContent.trim() === '3'"));
    browser.until("document.querySelector('[data-test=restored-from]').textContent.includes('cp-')");
    browser.until("document.querySelector('[data-test=recovery-total]').textContent.includes('in all')");
    browser.until("document.querySelectorAll('[data-test=recovery] svg rect').length === 4");
    assert!(browser.text("recovery-files").contains("linked"), "{}", browser.text("recovery-files"));
    let events = browser.text("events");
    assert!(events.contains("worker 0") || events.contains("worker 1"), "{events}");
    assert_clean(&browser, &page);

    let before = newest(&moves_on(&settings, 0).await);
    browser.tab_to("action-stop");
    browser.press("Enter");
    browser.until("document.querySelector('[data-test=dialog-stop]').open");
    browser.tab_to("submit-stop");
    browser.press("Enter");
    assert!(ended(&mut job).await);
    browser.until("!document.querySelector('[data-test=banner]').hidden");

    // The next manager's page has what happened before.
    let mut second = run(&settings, &["--workers", "1"]);
    let page = page_of(&moves_on(&settings, before).await);
    browser.complaints.clear();
    browser.requests.clear();
    browser.open(&page);
    browser.until(RUNNING);
    for more in ["checkpoints-more", "events-more"] {
        browser.tab_to(more);
        browser.press("Enter");
    }
    let events = browser.text("events");
    for part in ["failed", "rescaled", "stopping", "finished", "claimed"] {
        assert!(events.contains(part), "{part}: {events}");
    }
    browser.until(A_ROW_OF_GENERATION_3);
    assert_clean(&browser, &page);
    settings.let_go();
    drop(browser);
    // The rest of the input takes too long.
    second.signal("INT");
    assert!(ended(&mut second).await);
}
