//! The plots of a report, each with its legend and what it shows in a sentence.

use super::super::report::Report;
use super::super::series::Point;
use super::markup::Markup;
use super::plot::{Axis, Plot, millis, seconds, short};

/// A plot as it stands on the page.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) says: String,
    pub(super) legend: Vec<(&'static str, String)>,
    pub(super) svg: String,
}

impl Chart {
    /// Title, sentence, legend and drawing.
    pub(super) fn show(&self, m: &mut Markup) {
        m.element("figure", &[], |m| {
            m.element("figcaption", &[], |m| {
                m.leaf("h3", &[], self.title);
                m.leaf("p", &[], &self.says);
            });
            m.raw(&self.svg);
            m.element("ul", &[("class", &"legend")], |m| {
                for (class, name) in &self.legend {
                    m.element("li", &[], |m| {
                        m.element("svg", &[("viewBox", &"0 0 28 8"), ("aria-hidden", &"true")], |m| {
                            let (what, d) = if class.starts_with("fill") {
                                ("area", "M1 0H27V8H1Z")
                            } else {
                                ("line", "M1 4H27")
                            };
                            m.empty("path", &[("class", &format!("{what} {class}")), ("d", &d)]);
                        });
                        m.text(name);
                    });
                }
            });
        });
    }
}

/// All plots that have something to show.
pub(super) fn all(report: &Report) -> Vec<Chart> {
    let has_latency = report.series.buckets.iter().any(|b| b.p50_ms.is_some());
    let mut charts = Vec::new();
    if has_latency {
        charts.push(over_time(report));
        charts.push(distribution(report));
        charts.push(spent(report));
    }
    charts.push(rates(report));
    charts.push(outcomes(report));
    charts.push(depth(report));
    charts
}

const TIME: &str = "time since the start";

/// What all plots over time share: buckets, their width, the axis of time.
struct Over<'a> {
    buckets: &'a [Point],
    width: f64,
    end: f64,
    last_due: f64,
}

impl<'a> Over<'a> {
    fn of(report: &'a Report) -> Self {
        let (buckets, width) = (report.series.buckets.as_slice(), report.series.bucket_s);
        let end = buckets.last().map_or(1.0, |b| b.at_s + width);
        Self { buckets, width, end, last_due: report.run.published_for_s }
    }

    fn plot(&self, y: Axis, label: &str) -> Plot {
        let mut plot = Plot::new(Axis::seconds(self.end), y, TIME, label);
        plot.mark(self.last_due, "last job due");
        plot
    }

    fn tips(&self, plot: &mut Plot, text: impl Fn(&Point) -> String) {
        for bucket in self.buckets {
            let text = format!("{}: {}", seconds(bucket.at_s), text(bucket));
            plot.tip(bucket.at_s, bucket.at_s + self.width, &text);
        }
    }

    /// One area on top of the other.
    fn stack<F: Fn(&Point) -> f64>(&self, plot: &mut Plot, layers: &[(&str, &str, F)]) {
        let mut base = vec![0.0; self.buckets.len()];
        for (class, _, value) in layers {
            let step = |(b, base): (&Point, &mut f64)| {
                let low = *base;
                *base += value(b);
                (b.at_s, low, *base)
            };
            let steps: Vec<_> = self.buckets.iter().zip(&mut base).map(step).collect();
            plot.steps(class, self.width, &steps);
        }
    }

    /// A bucket's middle and a value.
    fn at(&self, bucket: &Point, value: f64) -> (f64, f64) {
        (bucket.at_s + self.width / 2.0, value)
    }

    fn per_second(&self, count: u32) -> f64 {
        f64::from(count) / self.width
    }
}

/// A percentile of a bucket.
type Percentile = (&'static str, &'static str, fn(&Point) -> Option<f64>);

fn over_time(report: &Report) -> Chart {
    const LINES: [Percentile; 4] = [
        ("grey dotted", "max", |b| b.max_ms),
        ("orange", "p99", |b| b.p99_ms),
        ("purple dashed", "p95", |b| b.p95_ms),
        ("blue", "p50", |b| b.p50_ms),
    ];
    let over = Over::of(report);
    let values = over.buckets.iter().flat_map(|b| [b.p50_ms, b.max_ms]).flatten();
    let mut plot = over.plot(Axis::log_ms(values), "total latency, log scale");
    for (class, _, value) in LINES {
        plot.line(class, over.buckets.iter().map(|b| value(b).map(|ms| over.at(b, ms))));
    }
    over.tips(&mut plot, |b| {
        let texts =
            LINES.iter().rev().filter_map(|(_, name, value)| Some(format!("{name} {}", millis(value(b)?))));
        let texts: Vec<String> = texts.collect();
        if texts.is_empty() { "no job due then was accepted".to_owned() } else { texts.join(", ") }
    });
    Chart {
        title: "Latency over time",
        says: "From a job's intended time to its acceptance, by that intended time.".to_owned(),
        legend: LINES.iter().rev().map(|(class, name, _)| (*class, (*name).to_owned())).collect(),
        svg: plot.finish("Percentiles of the total latency over time"),
    }
}

fn distribution(report: &Report) -> Chart {
    let class = |part: &str| match part {
        "confirm" => "grey dotted",
        "queued" => "purple dashed",
        "permit" => "orange",
        "http" => "green dashed",
        _ => "blue thick",
    };
    let curves = &report.curves;
    let most = curves.iter().filter_map(|c| c.points.last()).map(|point| point.0).fold(90.0, f64::max);
    let values = curves.iter().flat_map(|c| c.points.iter().map(|point| point.1));
    let mut plot = Plot::new(Axis::nines(most), Axis::log_ms(values), "percentile", "latency, log scale");
    for curve in curves {
        plot.line(class(curve.part), curve.points.iter().map(|point| Some(*point)));
    }
    let longest =
        curves.iter().map(|c| c.points.as_slice()).max_by_key(|points| points.len()).unwrap_or_default();
    for pair in longest.windows(2) {
        let [(percent, _), (next, _)] = pair else { continue };
        let at = curves.iter().rev().filter_map(|c| {
            let (_, ms) = c.points.iter().find(|point| point.0 >= *percent)?;
            Some(format!("{} {}", c.part, millis(*ms)))
        });
        plot.tip(*percent, *next, &format!("p{percent}: {}", at.collect::<Vec<_>>().join(", ")));
    }
    Chart {
        title: "Latency distribution",
        says: "Which share of the jobs was at most so slow, by part.".to_owned(),
        legend: curves.iter().rev().map(|c| (class(c.part), c.part.to_owned())).collect(),
        svg: plot.finish("Percentile curves of the latency by part"),
    }
}

/// A part of a bucket's mean.
type Mean = (&'static str, &'static str, fn(&Point) -> f64);

fn spent(report: &Report) -> Chart {
    const PARTS: [Mean; 4] = [
        ("fill-purple", "queued", |b| b.mean_queued_ms.unwrap_or_default()),
        ("fill-orange", "permit", |b| b.mean_permit_ms.unwrap_or_default()),
        ("fill-green", "http", |b| b.mean_http_ms.unwrap_or_default()),
        ("fill-grey", "the rest: publishing, earlier attempts", |b| {
            let parts = [b.mean_queued_ms, b.mean_permit_ms, b.mean_http_ms];
            (b.mean_ms.unwrap_or_default() - parts.into_iter().flatten().sum::<f64>()).max(0.0)
        }),
    ];
    let over = Over::of(report);
    let sum = |b: &Point| PARTS.iter().map(|(_, _, mean)| mean(b)).sum::<f64>();
    let most = over.buckets.iter().map(sum).fold(0.0, f64::max);
    let mut plot = over.plot(Axis::linear_ms(most), "mean latency");
    over.stack(&mut plot, &PARTS);
    over.tips(&mut plot, |b| {
        let texts = PARTS.iter().map(|(_, name, mean)| format!("{name} {}", millis(mean(b))));
        texts.collect::<Vec<_>>().join(", ")
    });
    Chart {
        title: "Where the time went",
        says: "Mean of each part, by a job's intended time; one on top of the other.".to_owned(),
        legend: PARTS.iter().map(|(class, name, _)| (*class, (*name).to_owned())).collect(),
        svg: plot.finish("Mean latency by part over time, stacked"),
    }
}

fn rates(report: &Report) -> Chart {
    let over = Over::of(report);
    let ceiling = report.run.ceiling_per_s;
    let counts = over.buckets.iter().flat_map(|b| [b.offered, b.published, b.accepted, b.requests]);
    let most = counts.map(|count| over.per_second(count)).fold(ceiling.unwrap_or(0.0), f64::max);
    let mut plot = over.plot(Axis::linear(most), "jobs a second");
    let offered: Vec<_> = over.buckets.iter().map(|b| (b.at_s, 0.0, over.per_second(b.offered))).collect();
    plot.steps("fill-grey", over.width, &offered);
    let line = |count: fn(&Point) -> u32| over.buckets.iter().map(move |b| (b, count(b)));
    let over = &over;
    plot.line("purple dashed", line(|b| b.requests).map(|(b, n)| Some(over.at(b, over.per_second(n)))));
    plot.line("blue", line(|b| b.published).map(|(b, n)| Some(over.at(b, over.per_second(n)))));
    plot.line("green thick", line(|b| b.accepted).map(|(b, n)| Some(over.at(b, over.per_second(n)))));
    let mut legend = vec![
        ("fill-grey", "offered".to_owned()),
        ("blue", "published".to_owned()),
        ("green thick", "accepted".to_owned()),
        ("purple dashed", "requests".to_owned()),
    ];
    if let Some(ceiling) = ceiling {
        plot.across("red dashed", ceiling);
        legend.push(("red dashed", format!("ceiling, {}/s", short(ceiling))));
    }
    over.tips(&mut plot, |b| {
        let per_second = |count| short(over.per_second(count));
        let (offered, published) = (per_second(b.offered), per_second(b.published));
        let (accepted, requests) = (per_second(b.accepted), per_second(b.requests));
        format!("{offered}/s offered, {published}/s published, {accepted}/s accepted, {requests}/s requests")
    });
    let says = if ceiling.is_some() {
        "What was due, what the queue took, what providers took, against their ceiling."
    } else {
        "What was due, what the queue took, what providers took. There is no common ceiling."
    };
    Chart { title: "Rates", says: says.to_owned(), legend, svg: plot.finish("Rates over time") }
}

/// An outcome of a bucket.
type Outcome = (&'static str, &'static str, fn(&Point) -> u32);

fn outcomes(report: &Report) -> Chart {
    const ALL: [Outcome; 4] = [
        ("fill-green", "accepted", |b| b.accepted),
        ("fill-red", "dead", |b| b.dead),
        ("fill-orange", "expired", |b| b.expired),
        ("fill-purple", "superseded", |b| b.superseded),
    ];
    let over = Over::of(report);
    let there: Vec<Outcome> = ALL
        .into_iter()
        .filter(|(_, name, count)| *name == "accepted" || over.buckets.iter().any(|b| count(b) > 0))
        .collect();
    let all = |b: &Point| over.per_second(there.iter().map(|(_, _, count)| count(b)).sum());
    let retried = |b: &Point| over.per_second(b.retried);
    let most = over.buckets.iter().map(|b| all(b).max(retried(b))).fold(0.0, f64::max);
    let mut plot = over.plot(Axis::linear(most), "jobs a second");
    let over = &over;
    let layer = |&(class, name, count): &Outcome| (class, name, move |b: &Point| over.per_second(count(b)));
    let layers: Vec<_> = there.iter().map(layer).collect();
    over.stack(&mut plot, &layers);
    let mut legend: Vec<_> = there.iter().map(|(class, name, _)| (*class, (*name).to_owned())).collect();
    if over.buckets.iter().any(|b| b.retried > 0) {
        plot.line("blue dashed", over.buckets.iter().map(|b| Some(over.at(b, retried(b)))));
        legend.push(("blue dashed", "attempts retried".to_owned()));
    }
    over.tips(&mut plot, |b| {
        let texts =
            there.iter().map(|(_, name, count)| format!("{}/s {name}", short(over.per_second(count(b)))));
        let mut texts: Vec<String> = texts.collect();
        texts.push(format!("{}/s retried", short(retried(b))));
        texts.join(", ")
    });
    Chart {
        title: "Outcomes",
        says: "How jobs ended, when they ended; one on top of the other.".to_owned(),
        legend,
        svg: plot.finish("Outcomes over time, stacked"),
    }
}

fn depth(report: &Report) -> Chart {
    let over = Over::of(report);
    let most = over.buckets.iter().map(|b| b.depth as f64).fold(0.0, f64::max);
    let mut plot = over.plot(Axis::linear(most), "jobs");
    let steps: Vec<_> = over.buckets.iter().map(|b| (b.at_s, 0.0, b.depth as f64)).collect();
    plot.steps("fill-blue", over.width, &steps);
    over.tips(&mut plot, |b| format!("{} open", b.depth));
    Chart {
        title: "Jobs open",
        says: "Published and not ended: queued, waiting for a permit, or being sent.".to_owned(),
        legend: vec![("fill-blue", "open at the end of each interval".to_owned())],
        svg: plot.finish("Jobs open over time"),
    }
}
