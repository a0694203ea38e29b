//! Curves as SVG.

use plotters::{
    coord::{
        Shift,
        combinators::{BindKeyPoints, LogCoord, WithKeyPoints},
        ranged1d::{AsRangedCoord, ValueFormatter},
    },
    element::DashedPathElement,
    prelude::*,
};
use std::{error::Error, ops::Range};

/// A curve; points that are not finite are left out.
pub struct Curve {
    pub label: String,
    pub color: RGBColor,
    pub points: Vec<(f64, f64)>,
    /// Half lengths of error bars, one for every point, which are drawn as dots then; empty for none.
    pub bars: Vec<f64>,
}

impl Curve {
    /// Points with the ends of their bars.
    fn ends(&self) -> impl Iterator<Item = ((f64, f64), [f64; 2])> + '_ {
        let bars = self.points.iter().zip(&self.bars);
        bars.map(|(&(x, y), &bar)| {
            let bar = if bar.is_finite() { bar } else { 0.0 };
            ((x, y), [y - bar, y + bar])
        })
    }
}

/// A plot of curves, over a range that starts at 0 unless it is logarithmic.
pub struct Plot {
    pub title: String,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub curves: Vec<Curve>,
    /// A dashed horizontal line with its label.
    pub level: Option<(f64, String)>,
    /// A point that is marked, with its label.
    pub mark: Option<((f64, f64), String)>,
    /// Logarithmic values.
    pub log: bool,
    /// Logarithmic arguments as well.
    pub log_x: bool,
    /// Where curves leave room.
    pub legend: SeriesLabelPosition,
}

/// How often values fall where, and a value that is marked.
pub struct Histogram {
    pub title: String,
    pub x_label: &'static str,
    /// The finite ones are counted.
    pub values: Vec<f64>,
    pub label: String,
    pub mark: (f64, String),
}

/// Points in the plane, some of them picked.
pub struct Scatter {
    pub title: String,
    pub points: Vec<(f64, f64)>,
    pub label: String,
    pub picked: Vec<(f64, f64)>,
    pub picked_label: String,
}

/// Speeds below the roofs that the limits of a machine make: a slope and a level, on logarithmic axes.
pub struct Roofline {
    pub title: String,
    pub x_label: &'static str,
    pub y_label: &'static str,
    /// Label, slope and level.
    pub roofs: Vec<(String, f64, f64)>,
    /// Label and dots.
    pub groups: Vec<(String, Vec<Dot>)>,
}

/// Place, and whether the dot is filled.
pub type Dot = ((f64, f64), bool);

pub const BLUE: RGBColor = RGBColor(31, 119, 180);
pub const ORANGE: RGBColor = RGBColor(217, 95, 2);
pub const GREEN: RGBColor = RGBColor(27, 120, 55);
pub const PURPLE: RGBColor = RGBColor(118, 42, 131);
pub const UPPER_RIGHT: SeriesLabelPosition = SeriesLabelPosition::UpperRight;
const GRAY: RGBColor = RGBColor(90, 90, 90);
const LIGHT: RGBColor = RGBColor(178, 178, 178);
const GRID: RGBColor = RGBColor(225, 225, 225);

const SIZE: (u32, u32) = (860, 520);
const FONT: &str = "sans-serif";

impl Plot {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (x, y) = (self.x_range(), self.y_range());
        let drawn = match (self.log_x, self.log) {
            (false, false) => self.draw(&root, x, y),
            (false, true) => self.draw(&root, x, log_axis(y)),
            (true, false) => self.draw(&root, log_axis(x), y),
            (true, true) => self.draw(&root, log_axis(x), log_axis(y)),
        };
        drawn.expect("drawing into memory does not fail");
        drop(root);
        svg
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let values = self.curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
        let ends = self.curves.iter().flat_map(|curve| curve.ends().flat_map(|(_, ends)| ends));
        let values = values.chain(ends).chain(self.level.iter().map(|level| level.0));
        values.filter(|&y| self.shows(y))
    }

    fn x_range(&self) -> Range<f64> {
        let points = self.curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
        if self.log_x {
            let points = points.filter(|&x| x > 0.0 && x.is_finite());
            let (first, last) = extremes(points).unwrap_or((1.0, 10.0));
            // Bars would be drawn on the axis.
            let room =
                if self.curves.iter().all(|curve| curve.bars.is_empty()) { 1.0 } else { 1.15 };
            first / room..last.max(2.0 * first) * room
        } else {
            0.0..points.fold(1.0, f64::max)
        }
    }

    fn shows(&self, y: f64) -> bool {
        y.is_finite() && !(self.log && y <= 0.0)
    }

    /// All values with some room around them.
    fn y_range(&self) -> Range<f64> {
        match extremes(self.values()) {
            None => 0.1..1.0,
            Some((low, high)) if self.log => low / 1.5..high * 1.5,
            Some(extremes) => with_room(extremes, 0.06),
        }
    }

    fn draw<X, Y>(&self, root: &Root<'_>, x_range: X, y_range: Y) -> Result<(), Box<dyn Error>>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let (ends, bottom) = (self.x_range(), self.y_range().start);
        let mut chart = axes(root, &self.title, [self.x_label, self.y_label], x_range, y_range)?;
        for curve in &self.curves {
            let points = curve.points.iter().copied().filter(|point| self.shows(point.1));
            let style = curve.color.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(&curve.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
            let bars = || curve.ends().filter(|((_, y), _)| self.shows(*y));
            chart.draw_series(bars().map(|((x, _), [low, high])| {
                PathElement::new([(x, low.max(bottom)), (x, high)], style)
            }))?;
            chart.draw_series(bars().map(|(point, _)| Circle::new(point, 4, style.filled())))?;
        }
        if let Some((y, label)) = &self.level
            && self.shows(*y)
        {
            let ends = [(ends.start, *y), (ends.end, *y)];
            chart
                .draw_series(DashedLineSeries::new(ends, 8, 6, GRAY.stroke_width(2)))?
                .label(label)
                .legend(|(x, y)| dashes(x, y));
        }
        if let Some((point, label)) = &self.mark
            && self.shows(point.1)
        {
            chart
                .draw_series([Circle::new(*point, 5, BLACK.filled())])?
                .label(label)
                .legend(|(x, y)| Circle::new((x + 12, y), 5, BLACK.filled()));
        }
        legend(&mut chart, self.legend.clone())?;
        root.present()?;
        Ok(())
    }
}

impl Histogram {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        self.draw(&root).expect("drawing into memory does not fail");
        drop(root);
        svg
    }

    /// Bars of the same width: where each begins, its width and the number of values in it.
    fn bars(&self) -> (f64, f64, Vec<usize>) {
        let values = || self.values.iter().copied().filter(|value| value.is_finite());
        let Some((low, high)) = extremes(values()) else { return (0.0, 1.0, Vec::new()) };
        let count = ((values().count() as f64).sqrt().ceil() as usize).clamp(1, 50);
        let width = (high - low) / count as f64;
        if !(width > 0.0 && width.is_finite()) {
            return (low, 0.0, vec![values().count()]);
        }
        let mut bars = vec![0; count];
        for value in values() {
            bars[(((value - low) / width) as usize).min(count - 1)] += 1;
        }
        (low, width, bars)
    }

    fn draw(&self, root: &Root<'_>) -> Result<(), Box<dyn Error>> {
        let (start, width, bars) = self.bars();
        let end = start + width * bars.len() as f64;
        let marked = Some(self.mark.0).filter(|x| x.is_finite());
        let ends = extremes([start, end].into_iter().chain(marked)).expect("two values at least");
        let x_range = with_room(ends, 0.04);
        // Values that are all equal make a bar that can be seen.
        let width = if width > 0.0 { width } else { 0.02 * (x_range.end - x_range.start) };
        let top = 1.15 * bars.iter().copied().max().unwrap_or(0).max(1) as f64;
        let labels = [self.x_label, "number"];
        let mut chart = axes(root, &self.title, labels, x_range, 0.0..top)?;
        let rectangles = bars.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, &n)| {
            let left = start + width * i as f64;
            let corners = [(left, 0.0), (left + width, n as f64)];
            let mut bar = Rectangle::new(corners, BLUE.mix(0.75).filled());
            bar.set_margin(0, 0, 0, 1);
            bar
        });
        chart.draw_series(rectangles)?.label(&self.label).legend(|(x, y)| {
            Rectangle::new([(x, y - 6), (x + 24, y + 6)], BLUE.mix(0.75).filled())
        });
        if let Some(x) = marked {
            let style = ORANGE.stroke_width(3);
            chart
                .draw_series(LineSeries::new([(x, 0.0), (x, top)], style))?
                .label(&self.mark.1)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        }
        legend(&mut chart, UPPER_RIGHT)?;
        root.present()?;
        Ok(())
    }
}

impl Scatter {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, (720, 640)).into_drawing_area();
        self.draw(&root).expect("drawing into memory does not fail");
        drop(root);
        svg
    }

    fn draw(&self, root: &Root<'_>) -> Result<(), Box<dyn Error>> {
        let all = || self.points.iter().chain(&self.picked);
        let x_range = with_room(extremes(all().map(|p| p.0)).unwrap_or((0.0, 1.0)), 0.05);
        // Room for the legend above.
        let y_range = with_room(extremes(all().map(|p| p.1)).unwrap_or((0.0, 1.0)), 0.05);
        let y_range = y_range.start..y_range.end + 0.12 * (y_range.end - y_range.start);
        let labels = ["first coordinate", "second coordinate"];
        let mut chart = axes(root, &self.title, labels, x_range, y_range)?;
        let small = LIGHT.filled();
        chart
            .draw_series(self.points.iter().map(|&point| Circle::new(point, 2, small)))?
            .label(&self.label)
            .legend(move |(x, y)| Circle::new((x + 12, y), 2, small));
        let large = ORANGE.mix(0.85).filled();
        chart
            .draw_series(self.picked.iter().map(|&point| Circle::new(point, 5, large)))?
            .label(&self.picked_label)
            .legend(move |(x, y)| Circle::new((x + 12, y), 5, large));
        legend(&mut chart, UPPER_RIGHT)?;
        root.present()?;
        Ok(())
    }
}

impl Roofline {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        self.draw(&root).expect("drawing into memory does not fail");
        drop(root);
        svg
    }

    fn draw(&self, root: &Root<'_>) -> Result<(), Box<dyn Error>> {
        let dots = || self.groups.iter().flat_map(|(_, dots)| dots);
        let ridges = || self.roofs.iter().map(|(_, slope, level)| level / slope);
        let xs = extremes(dots().map(|dot| dot.0.0).chain(ridges())).unwrap_or((1.0, 1.0));
        let levels = self.roofs.iter().map(|roof| roof.2);
        let ys = extremes(dots().map(|dot| dot.0.1).chain(levels)).unwrap_or((1.0, 1.0));
        let x_range = xs.0 / 2.0..xs.1 * 2.0;
        let y_range = ys.0 / 2.0..ys.1 * 2.0;
        let labels = [self.x_label, self.y_label];
        let axes_ranges = (log_axis(x_range.clone()), log_axis(y_range.clone()));
        let mut chart = axes(root, &self.title, labels, axes_ranges.0, axes_ranges.1)?;
        for ((label, slope, level), color) in self.roofs.iter().zip([BLACK, GRAY]) {
            let style = color.stroke_width(2);
            let start = x_range.start.max(y_range.start / slope);
            let line = [start, level / slope, x_range.end].map(|x| (x, level.min(slope * x)));
            chart
                .draw_series(LineSeries::new(line, style))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        }
        for ((label, dots), color) in self.groups.iter().zip([BLUE, ORANGE, GREEN, PURPLE]) {
            let style = |filled| if filled { color.filled() } else { color.stroke_width(2) };
            let dot = |&(place, filled): &Dot| Circle::new(place, 4, style(filled));
            chart
                .draw_series(dots.iter().map(dot))?
                .label(label)
                .legend(move |(x, y)| Circle::new((x + 12, y), 4, color.filled()));
        }
        legend(&mut chart, SeriesLabelPosition::LowerRight)?;
        root.present()?;
        Ok(())
    }
}

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;

type Chart<'a, 'b, X, Y> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<<X as AsRangedCoord>::CoordDescType, <Y as AsRangedCoord>::CoordDescType>,
>;

/// An empty plot.
fn axes<'a, 'b, X, Y>(
    root: &'a Root<'b>,
    title: &str,
    [x_label, y_label]: [&str; 2],
    x_range: X,
    y_range: Y,
) -> Result<Chart<'a, 'b, X, Y>, Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .caption(title, (FONT, 20))
        .margin(14)
        .margin_right(26)
        .x_label_area_size(46)
        .y_label_area_size(76)
        .build_cartesian_2d(x_range, y_range)?;
    let (x_axis, y_axis) = (chart.x_range(), chart.y_range());
    chart
        .configure_mesh()
        .x_desc(x_label)
        .y_desc(y_label)
        .x_label_formatter(&|x| tick(*x, &x_axis))
        .y_label_formatter(&|y| tick(*y, &y_axis))
        .axis_desc_style((FONT, 16))
        .label_style((FONT, 14))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRAY)
        .draw()?;
    Ok(chart)
}

fn legend<'a, 'b: 'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Result<(), Box<dyn Error>>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .margin(12)
        .legend_area_size(32)
        .label_font((FONT, 15))
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .draw()?;
    Ok(())
}

/// The smallest and the largest value, if there are any.
fn extremes(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let both = values.into_iter().map(|x| (x, x));
    both.reduce(|(low, high), (x, _)| (low.min(x), high.max(x)))
}

/// A range with some room around it, a share of it.
fn with_room((low, high): (f64, f64), share: f64) -> Range<f64> {
    let least = 1e-9 * low.abs().max(high.abs());
    let room = if high - low > least { share * (high - low) } else { 0.5 * low.abs().max(1e-300) };
    let room = if low == 0.0 && high == 0.0 { 0.5 } else { room };
    low - room..high + room
}

fn log_axis(range: Range<f64>) -> WithKeyPoints<LogCoord<f64>> {
    let ticks = log_ticks(&range);
    range.log_scale().with_key_points(ticks)
}

/// 1, 2 and 5 times the powers of ten in a range, without 2 and 5 if that would be too many.
fn log_ticks(range: &Range<f64>) -> Vec<f64> {
    let (first, last) = (range.start.log10().floor() as i32, range.end.log10().ceil() as i32);
    let steps: &[i32] = if last - first > 5 { &[1] } else { &[1, 2, 5] };
    (first..=last)
        .flat_map(|power| steps.iter().map(move |&step| f64::from(step) * 10f64.powi(power)))
        .filter(|tick| range.contains(tick))
        .collect()
}

/// A dashed stroke for the legend.
fn dashes(x: i32, y: i32) -> DashedPathElement<std::array::IntoIter<(i32, i32), 2>, i32> {
    DashedPathElement::new([(x, y), (x + 24, y)], 6, 4, GRAY.stroke_width(2))
}

/// The text of a tick of an axis.
fn tick(x: f64, axis: &Range<f64>) -> String {
    let largest = axis.start.abs().max(axis.end.abs());
    if x.abs() < 1e-9 * largest || (1e-4..1e7).contains(&x.abs()) {
        return short(x);
    }
    let text = format!("{x:.2e}");
    let (digits, power) = text.split_once('e').expect("an exponent");
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    format!("{digits}e{power}")
}

/// A number with as many digits as a tick of an axis needs.
fn short(x: f64) -> String {
    let text = format!("{x:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot([log_x, log]: [bool; 2], points: Vec<(f64, f64)>) -> String {
        let curves =
            vec![Curve { label: "curve".to_owned(), color: BLUE, points, bars: Vec::new() }];
        let level = Some((0.5, "level".to_owned()));
        let mark = Some(((1.0, 0.7), "mark".to_owned()));
        Plot {
            title: "title".to_owned(),
            x_label: "iteration",
            y_label: "y",
            curves,
            level,
            mark,
            log,
            log_x,
            legend: UPPER_RIGHT,
        }
        .svg()
    }

    const SCALES: [[bool; 2]; 4] = [[false, false], [false, true], [true, false], [true, true]];

    #[test]
    fn documents_are_complete() {
        for log in SCALES {
            let svg = plot(log, vec![(0.0, 1.0), (1.0, 0.7), (2.0, f64::NAN), (3.0, 0.0)]);
            assert!(svg.trim_end().ends_with("</svg>"));
            for text in ["title", "iteration", "curve", "level", "mark"] {
                assert!(svg.contains(text), "{text}");
            }
            assert!(!svg.contains("NaN"));
        }
    }

    #[test]
    fn bars() {
        let curve = |bars: &[f64]| Curve {
            label: "curve".to_owned(),
            color: BLUE,
            points: vec![(1.0, 1.0), (2.0, 0.5), (4.0, f64::NAN)],
            bars: bars.to_owned(),
        };
        let ends: Vec<_> = curve(&[0.25, f64::NAN, 1.0]).ends().map(|(_, ends)| ends).collect();
        assert_eq!(ends[..2], [[0.75, 1.25], [0.5, 0.5]]);
        for [log_x, log] in SCALES {
            // One that reaches below 0 ends at the edge of a logarithmic plot.
            let curves = vec![curve(&[0.25, 0.75, 1.0])];
            let plot = Plot {
                title: "title".to_owned(),
                x_label: "x",
                y_label: "y",
                curves,
                level: None,
                mark: None,
                log,
                log_x,
                legend: UPPER_RIGHT,
            };
            let svg = plot.svg();
            assert_eq!(svg.matches("<circle").count(), 2);
            assert!(!svg.contains("NaN"));
        }
    }

    #[test]
    fn degenerate_curves_can_be_drawn() {
        for log in SCALES {
            for points in [vec![], vec![(0.0, 0.5)], vec![(0.0, f64::INFINITY)]] {
                assert!(plot(log, points).contains("</svg>"));
            }
        }
    }

    #[test]
    fn histograms() {
        let histogram = |values: &[f64], mark| Histogram {
            title: "title".to_owned(),
            x_label: "x",
            values: values.to_owned(),
            label: "draws".to_owned(),
            mark: (mark, "observed".to_owned()),
        };
        let (start, width, bars) = histogram(&[1.0, 1.5, 3.0, f64::NAN, 2.0], 0.0).bars();
        assert_eq!((start, width, bars), (1.0, 1.0, vec![2, 2]));
        for values in [&[][..], &[2.0], &[0.0, 0.0], &[-1e-9, 1e-9], &[-1e300, 1e300]] {
            for mark in [0.0, 2.0, 1e-9] {
                let svg = histogram(values, mark).svg();
                assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
                assert!(svg.contains("draws") && svg.contains("observed"));
            }
        }
    }

    #[test]
    fn scatters() {
        for points in [vec![], vec![(1.0, 1.0)], vec![(0.0, 2.0), (3.0, -1.0)]] {
            let scatter = Scatter {
                title: "title".to_owned(),
                picked: points.iter().copied().take(1).collect(),
                points,
                label: "all".to_owned(),
                picked_label: "picked".to_owned(),
            };
            let svg = scatter.svg();
            assert!(svg.contains("all") && svg.contains("picked") && !svg.contains("NaN"));
        }
    }

    #[test]
    fn rooflines() {
        for (roofs, dots) in [(0, 0), (1, 0), (2, 3)] {
            let roofline = Roofline {
                title: "title".to_owned(),
                x_label: "x",
                y_label: "y",
                roofs: (0..roofs).map(|i| (format!("roof {i}"), 10.0, 100.0)).collect(),
                groups: vec![("dots".to_owned(), vec![((0.5, 3.0), true); dots])],
            };
            let svg = roofline.svg();
            assert!(svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"));
            assert_eq!(svg.matches(">\nroof ").count(), roofs);
            // And one in the legend.
            assert_eq!(svg.matches("<circle").count(), dots + 1);
        }
    }

    #[test]
    fn logarithmic_ticks() {
        assert_eq!(log_ticks(&(0.011..0.4)), [0.02, 0.05, 0.1, 0.2]);
        assert_eq!(log_ticks(&(1e-4..20.0)).len(), 6);
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([0.1, -0.25, 0.0, -1e-12, 2.0].map(short), ["0.1", "-0.25", "0", "0", "2"]);
        let tick = |x| tick(x, &(-1e-5..4e-5));
        assert_eq!([0.0, 1e-21, -1e-5, 2.5e-5].map(tick), ["0", "0", "-1e-5", "2.5e-5"]);
    }
}
