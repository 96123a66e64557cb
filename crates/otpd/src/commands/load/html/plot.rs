//! A plot: two axes with gridlines and labels, and what is drawn between them. Pure: numbers in, SVG out.
//!
//! Colours and dashes are classes of the page's style, so that they follow light and dark. The drawing is 480
//! wide and scales with its place; letters stay readable on a phone.

use super::markup::Markup;

/// The drawing's size and the plot's place in it.
pub(super) const WIDTH: f64 = 480.0;
pub(super) const HEIGHT: f64 = 270.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 470.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 228.0;

/// From values to places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    kind: Kind,
    from: f64,
    to: f64,
    /// Values with a gridline, and what is written there.
    pub(super) ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Linear,
    Log,
    /// Percent, by how little is above: 90, 99, 99.9 are equally far apart.
    Nines,
}

impl Axis {
    /// From 0 to `most`, or a little more.
    pub(super) fn linear(most: f64) -> Self {
        let most = bounded(most, 1e-3, 1e15);
        let step = nice(most / 4.0);
        let count = (most / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step).map(|at| (at, short(at))).collect();
        Self { kind: Kind::Linear, from: 0.0, to: count * step, ticks }
    }

    /// Milliseconds, from 0 to `most` or a little more.
    pub(super) fn linear_ms(most: f64) -> Self {
        let mut axis = Self::linear(most);
        axis.ticks.iter_mut().for_each(|(at, text)| *text = millis(*at));
        axis
    }

    /// Seconds, from 0 to `most`.
    pub(super) fn seconds(most: f64) -> Self {
        const STEPS: [f64; 17] = [
            0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
            7200.0, 14400.0,
        ];
        let most = bounded(most, 0.1, 1e7);
        let step = STEPS.into_iter().find(|step| most / step <= 7.0).unwrap_or(28_800.0);
        let count = (most / step + 1e-9).floor() as u32;
        let ticks = (0..=count).map(|n| f64::from(n) * step).map(|at| (at, seconds(at))).collect();
        Self { kind: Kind::Linear, from: 0.0, to: most, ticks }
    }

    /// Milliseconds on a logarithmic scale; without values, one decade.
    pub(super) fn log_ms(values: impl Iterator<Item = f64> + Clone) -> Self {
        let values = values.filter(|value| value.is_finite() && *value > 0.0);
        let least = values.clone().fold(f64::INFINITY, f64::min).clamp(0.01, 1e6);
        let most = values.fold(0.0, f64::max).max(least * 1.5);
        let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        // Where there are few decades, 2 and 5 get lines as well, and the scale may end there.
        let within: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let marks: Vec<f64> =
            (first..=last).flat_map(|d| within.iter().map(move |m| m * 10f64.powi(d))).collect();
        let from = marks
            .iter()
            .copied()
            .filter(|m| *m <= least * 1.0001)
            .fold(marks.first().copied().unwrap_or(0.01), f64::max);
        let to = marks.iter().copied().find(|m| *m >= most * 0.9999).unwrap_or(from * 10.0);
        let inside = marks.into_iter().filter(|m| (from * 0.9999..=to * 1.0001).contains(m));
        Self { kind: Kind::Log, from, to, ticks: inside.map(|at| (at, millis(at))).collect() }
    }

    /// Percentiles up to `most` percent (below 100).
    pub(super) fn nines(most: f64) -> Self {
        let marks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
        let to = most.clamp(90.0, 99.9999);
        let ticks =
            marks.into_iter().filter(|at| *at <= to * 1.000_000_1).map(|at| (at, format!("p{at}"))).collect();
        Self { kind: Kind::Nines, from: 0.0, to, ticks }
    }

    /// Where a value is, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let map = |value: f64| match self.kind {
            Kind::Linear => value,
            Kind::Log => value.max(self.from).log10(),
            Kind::Nines => -(1.0 - value.min(self.to) / 100.0).log10(),
        };
        let (from, to) = (map(self.from), map(self.to));
        let share = if to > from { (map(value) - from) / (to - from) } else { 0.0 };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A plot being drawn.
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    markup: Markup,
}

impl Plot {
    /// Axes and gridlines. `x_label` and `y_label` name the quantity and its unit.
    pub(super) fn new(x: Axis, y: Axis, x_label: &str, y_label: &str) -> Self {
        let mut plot = Self { x, y, markup: Markup::new() };
        let m = &mut plot.markup;
        for (value, text) in &plot.y.ticks {
            let y = BOTTOM - plot.y.share(*value) * (BOTTOM - TOP);
            m.empty(
                "line",
                &[("class", &"grid"), ("x1", &LEFT), ("x2", &RIGHT), ("y1", &p(y)), ("y2", &p(y))],
            );
            m.leaf("text", &[("class", &"tick end"), ("x", &(LEFT - 6.0)), ("y", &p(y + 4.0))], text);
        }
        for (value, text) in &plot.x.ticks {
            let x = LEFT + plot.x.share(*value) * (RIGHT - LEFT);
            m.empty(
                "line",
                &[("class", &"grid"), ("x1", &p(x)), ("x2", &p(x)), ("y1", &TOP), ("y2", &BOTTOM)],
            );
            let side = if x > RIGHT - 14.0 { "tick end" } else { "tick mid" };
            let x = if x > RIGHT - 14.0 { x + 8.0 } else { x };
            m.leaf("text", &[("class", &side), ("x", &p(x)), ("y", &(BOTTOM + 17.0))], text);
        }
        m.empty(
            "line",
            &[("class", &"axis"), ("x1", &LEFT), ("x2", &RIGHT), ("y1", &BOTTOM), ("y2", &BOTTOM)],
        );
        m.leaf("text", &[("class", &"label"), ("x", &4.0), ("y", &14.0)], y_label);
        m.leaf("text", &[("class", &"label end"), ("x", &RIGHT), ("y", &(HEIGHT - 6.0))], x_label);
        plot
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (LEFT + self.x.share(x) * (RIGHT - LEFT), BOTTOM - self.y.share(y) * (BOTTOM - TOP))
    }

    /// A line through points; `None` interrupts it.
    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = Option<(f64, f64)>>) {
        let mut path = String::new();
        let mut pen_is_up = true;
        let mut lone: Option<(f64, f64)> = None;
        let mut dots = Vec::new();
        for point in points {
            let Some(point) = point.map(|point| self.place(point)) else {
                dots.extend(lone.take());
                pen_is_up = true;
                continue;
            };
            path.push_str(&format!("{}{} {}", if pen_is_up { "M" } else { "L" }, p(point.0), p(point.1)));
            lone = pen_is_up.then_some(point);
            pen_is_up = false;
        }
        dots.extend(lone);
        if !path.is_empty() {
            self.markup.empty("path", &[("class", &format!("line {class}")), ("d", &path)]);
        }
        // A point without neighbours makes no line.
        for (x, y) in dots {
            self.markup.empty(
                "circle",
                &[("class", &format!("dot {class}")), ("cx", &p(x)), ("cy", &p(y)), ("r", &2.5)],
            );
        }
    }

    /// The area between two heights over steps of equal width: (begin, low, high).
    pub(super) fn steps(&mut self, class: &str, width: f64, steps: &[(f64, f64, f64)]) {
        let mut over = String::new();
        let mut under = Vec::with_capacity(steps.len());
        for (begin, low, high) in steps {
            let (x1, y) = self.place((*begin, *high));
            let (x2, base) = self.place((begin + width, *low));
            over.push_str(&format!(
                "{}{} {}H{}",
                if over.is_empty() { "M" } else { "L" },
                p(x1),
                p(y),
                p(x2)
            ));
            under.push(format!("L{} {}H{}", p(x2), p(base), p(x1)));
        }
        if !over.is_empty() {
            let under: String = under.into_iter().rev().collect();
            self.markup
                .empty("path", &[("class", &format!("area {class}")), ("d", &format!("{over}{under}Z"))]);
        }
    }

    /// A line across, at a height.
    pub(super) fn across(&mut self, class: &str, y: f64) {
        let (_, y) = self.place((0.0, y));
        let class = format!("line {class}");
        self.markup
            .empty("line", &[("class", &class), ("x1", &LEFT), ("x2", &RIGHT), ("y1", &p(y)), ("y2", &p(y))]);
    }

    /// A mark down the plot, with a word.
    pub(super) fn mark(&mut self, x: f64, word: &str) {
        let (x, _) = self.place((x, 0.0));
        if x >= RIGHT - 1.0 {
            return;
        }
        self.markup.empty(
            "line",
            &[("class", &"mark"), ("x1", &p(x)), ("x2", &p(x)), ("y1", &TOP), ("y2", &BOTTOM)],
        );
        let (side, at) = if x > RIGHT - 70.0 { ("tick end", x - 4.0) } else { ("tick", x + 4.0) };
        self.markup.leaf("text", &[("class", &side), ("x", &p(at)), ("y", &(TOP + 11.0))], word);
    }

    /// A strip of the plot that shows a text to whoever points at it.
    pub(super) fn tip(&mut self, from: f64, to: f64, text: &str) {
        let ((x1, _), (x2, _)) = (self.place((from, 0.0)), self.place((to, 0.0)));
        let (width, height) = (p((x2 - x1).max(0.5)), BOTTOM - TOP);
        let place: [(&str, &dyn std::fmt::Display); 5] =
            [("class", &"tip"), ("x", &p(x1)), ("y", &TOP), ("width", &width), ("height", &height)];
        self.markup.element("rect", &place, |m| {
            m.leaf("title", &[], text);
        });
    }

    /// The drawing; `says` is for those who cannot see it.
    pub(super) fn finish(self, says: &str) -> String {
        let mut m = Markup::new();
        let size = format!("0 0 {WIDTH} {HEIGHT}");
        m.element(
            "svg",
            &[("class", &"plot"), ("viewBox", &size), ("role", &"img"), ("aria-label", &says)],
            |m| {
                m.raw(&self.markup.into_string());
            },
        );
        m.into_string()
    }
}

/// The end of a scale that can be drawn: there is always something between its ends, and few ticks.
fn bounded(most: f64, least: f64, limit: f64) -> f64 {
    if most.is_finite() && most > 0.0 { most.clamp(least, limit) } else { 1.0 }
}

/// A place on the drawing, with one decimal.
fn p(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn nice(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|nice| *nice >= step * 0.9999).unwrap_or(step)
}

/// A number for an axis: 0.5, 40, 12k.
pub(super) fn short(number: f64) -> String {
    let rounded = |n: f64| (n * 100.0).round() / 100.0;
    if number >= 1e6 {
        format!("{}M", rounded(number / 1e6))
    } else if number >= 10_000.0 {
        format!("{}k", rounded(number / 1000.0))
    } else {
        rounded(number).to_string()
    }
}

/// Milliseconds with the unit that suits them.
pub(super) fn millis(ms: f64) -> String {
    let digits = |n: f64| {
        let decimals = if n >= 100.0 {
            1.0
        } else if n >= 10.0 {
            10.0
        } else {
            100.0
        };
        (n * decimals).round() / decimals
    };
    if ms <= 0.0 {
        return "0".to_owned();
    }
    if ms >= 60_000.0 {
        format!("{} min", digits(ms / 60_000.0))
    } else if ms >= 1000.0 {
        format!("{} s", digits(ms / 1000.0))
    } else {
        format!("{} ms", digits(ms))
    }
}

/// Seconds for an axis: 5 s, 2 min, 1:30, 2 h.
pub(super) fn seconds(s: f64) -> String {
    let whole = s.round() as u64;
    match whole {
        _ if s < 60.0 => format!("{} s", (s * 100.0).round() / 100.0),
        3600.. if whole.is_multiple_of(3600) => format!("{} h", whole / 3600),
        3600.. => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
        _ if whole.is_multiple_of(60) => format!("{} min", whole / 60),
        _ => format!("{}:{:02}", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::markup::is_well_formed;
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(texts(&Axis::linear(100.0)), ["0", "50", "100"]);
        assert_eq!(texts(&Axis::linear(70.0)), ["0", "20", "40", "60", "80"]);
        assert_eq!(texts(&Axis::linear(45_000.0)), ["0", "20k", "40k", "60k"]);
        assert_eq!(texts(&Axis::linear(0.0)), ["0", "0.5", "1"]);
        assert_eq!(texts(&Axis::seconds(3.2)), ["0 s", "0.5 s", "1 s", "1.5 s", "2 s", "2.5 s", "3 s"]);
        assert_eq!(texts(&Axis::seconds(300.0)), ["0 s", "1 min", "2 min", "3 min", "4 min", "5 min"]);
        assert_eq!(
            texts(&Axis::log_ms([3.0, 40.0].into_iter())),
            ["2 ms", "5 ms", "10 ms", "20 ms", "50 ms"]
        );
        let wide = Axis::log_ms([0.2, 4_000.0].into_iter());
        assert_eq!(texts(&wide), ["0.1 ms", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        assert_eq!(texts(&Axis::nines(99.95)), ["p0", "p50", "p90", "p99", "p99.9"]);
    }

    #[test]
    fn places() {
        let axis = Axis::nines(99.9);
        for (percent, share) in [(0.0, 0.0), (90.0, 1.0 / 3.0), (99.0, 2.0 / 3.0), (99.9, 1.0), (100.0, 1.0)]
        {
            assert!((axis.share(percent) - share).abs() < 1e-9, "{percent}");
        }
        let log = Axis::log_ms([1.0, 100.0].into_iter());
        assert!((log.share(10.0) - 0.5).abs() < 1e-9 && log.share(0.0) == 0.0 && log.share(1e9) == 1.0);
    }

    #[test]
    fn times_in_words() {
        for (s, text) in [
            (0.25, "0.25 s"),
            (30.0, "30 s"),
            (90.0, "1:30"),
            (120.0, "2 min"),
            (7200.0, "2 h"),
            (5400.0, "1:30 h"),
        ] {
            assert_eq!(seconds(s), text);
        }
        for (ms, text) in [(0.123, "0.12 ms"), (12.34, "12.3 ms"), (1500.0, "1.5 s"), (90_000.0, "1.5 min")] {
            assert_eq!(millis(ms), text);
        }
    }

    proptest! {
        #[test]
        fn any_numbers_make_a_drawing(
            points in proptest::collection::vec(proptest::option::of((proptest::num::f64::ANY, proptest::num::f64::ANY)), 0..20),
            most in proptest::num::f64::ANY, word in "\\PC{0,20}",
        ) {
            let ys = points.iter().flatten().map(|(_, y)| *y);
            for y in [Axis::linear(most), Axis::log_ms(ys.clone())] {
                let mut plot = Plot::new(Axis::seconds(most), y, &word, &word);
                plot.line("a", points.iter().copied());
                plot.mark(1.0, &word);
                plot.tip(0.0, 1.0, &word);
                plot.steps("b", 1.0, &points.iter().flatten().map(|(x, y)| (*x, 0.0, *y)).collect::<Vec<_>>());
                let svg = plot.finish(&word);
                prop_assert_eq!(is_well_formed(&svg), Ok(()));
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{}", svg);
            }
        }
    }
}
