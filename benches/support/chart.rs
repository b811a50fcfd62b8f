//! Bar charts as SVG, without a library: a chart is a few rectangles.

use std::fmt::Write as _;
use std::path::Path;

const COLOURS: [&str; 6] = ["#3b6ea8", "#e08a2e", "#7a9e48", "#a3479b", "#8c8c8c", "#c0504d"];
const PLOT_HEIGHT: f64 = 260.0;
const BAR_WIDTH: f64 = 26.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 64.0;

/// Bars in groups: one bar a series in every group.
pub struct BarChart<'a> {
    pub title: &'a str,
    /// What the height means, such as `MB`.
    pub unit: &'a str,
    pub series: &'a [&'a str],
    /// Label and one value a series.
    pub groups: Vec<(String, Vec<f64>)>,
}

impl BarChart<'_> {
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.svg()).unwrap();
        println!("chart: {}", path.display());
    }

    fn svg(&self) -> String {
        let top = round_up(self.groups.iter().flat_map(|(_, values)| values).fold(0.0, |a: f64, b| a.max(*b)));
        let group_width = BAR_WIDTH * self.series.len() as f64 + 22.0;
        let legend_width = self.series.iter().map(|name| 30.0 + 7.2 * name.len() as f64).sum::<f64>();
        let width = (LEFT + group_width * self.groups.len() as f64 + 20.0).max(LEFT + legend_width + 20.0).max(520.0);
        let height = TOP + PLOT_HEIGHT + 44.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            escape(self.title)
        );
        self.grid(&mut svg, top, width);
        self.legend(&mut svg);
        for (at, (label, values)) in self.groups.iter().enumerate() {
            let left = LEFT + 12.0 + group_width * at as f64;
            for (series, value) in values.iter().enumerate() {
                bar(&mut svg, left + BAR_WIDTH * series as f64, *value, top, COLOURS[series % COLOURS.len()]);
            }
            let middle = left + BAR_WIDTH * values.len() as f64 / 2.0;
            let base = TOP + PLOT_HEIGHT + 18.0;
            let _ =
                writeln!(svg, "<text x=\"{middle:.1}\" y=\"{base}\" text-anchor=\"middle\">{}</text>", escape(label));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn grid(&self, svg: &mut String, top: f64, width: f64) {
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let y = TOP + PLOT_HEIGHT * (1.0 - f64::from(step) / 4.0);
            let right = width - 12.0;
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(value)
            );
        }
        let y = TOP + PLOT_HEIGHT + 36.0;
        let _ = writeln!(svg, "<text x=\"12\" y=\"{y:.0}\" fill=\"#555\">{}</text>", escape(self.unit));
    }

    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (at, name) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"33\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"43\">{}</text>",
                x + 15.0,
                escape(name)
            );
            x += 30.0 + 7.2 * name.len() as f64;
        }
    }
}

fn bar(svg: &mut String, left: f64, value: f64, top: f64, colour: &str) {
    let height = PLOT_HEIGHT * value / top;
    let y = TOP + PLOT_HEIGHT - height;
    let _ = writeln!(
        svg,
        "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"9\">{}</text>",
        BAR_WIDTH - 3.0,
        left + BAR_WIDTH / 2.0 - 1.5,
        y - 3.0,
        short(value)
    );
}

fn short(value: f64) -> String {
    match value {
        value if value >= 99.5 => format!("{value:.0}"),
        value if value >= 9.95 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The least of 1, 2, 4, 6, 8, 10 times a power of ten that is not below `value`.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].map(|step| step * power).into_iter().find(|top| *top >= value).unwrap_or(value)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
