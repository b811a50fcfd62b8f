//! The web page, which the program holds whole: nothing comes from anywhere else.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::job::manager::Manager;

/// What a browser may do for the page: nothing but what this port gives it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and content of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/page/actions.js", SCRIPT, include_str!("page/actions.js")),
    ("/page/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/page/checkpoints.js", SCRIPT, include_str!("page/checkpoints.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/page/format.js", SCRIPT, include_str!("page/format.js")),
    ("/page/head.js", SCRIPT, include_str!("page/head.js")),
    ("/page/history.js", SCRIPT, include_str!("page/history.js")),
    ("/page/poll.js", SCRIPT, include_str!("page/poll.js")),
    ("/page/workers.js", SCRIPT, include_str!("page/workers.js")),
];

pub(super) fn pages() -> Router<Arc<Manager>> {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        let headers = [
            (CONTENT_TYPE, *kind),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-cache"),
        ];
        router.route(path, get(async move || (headers, *content).into_response()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/job/http/page");
        let there = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let name = |path: &str| match path {
            "/" => "index.html".to_owned(),
            path => path.rsplit('/').next().unwrap().to_owned(),
        };
        let served: BTreeSet<String> = FILES.iter().map(|(path, ..)| name(path)).collect();
        assert_eq!(there.collect::<BTreeSet<_>>(), served);
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        for (path, _, content) in FILES {
            for part in ["https://", "src=\"http", "href=\"http", "@import", "url(h", "innerHTML"] {
                assert!(!content.contains(part), "{path} has {part}");
            }
        }
    }
}
