//! Curves as SVG.

use plotters::{
    coord::{
        combinators::BindKeyPoints,
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
}

/// A plot of curves over a range that starts at 0.
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
}

pub const BLUE: RGBColor = RGBColor(31, 119, 180);
pub const ORANGE: RGBColor = RGBColor(217, 95, 2);
pub const GREEN: RGBColor = RGBColor(27, 120, 55);
pub const PURPLE: RGBColor = RGBColor(118, 42, 131);
const GRAY: RGBColor = RGBColor(90, 90, 90);
const GRID: RGBColor = RGBColor(225, 225, 225);

const SIZE: (u32, u32) = (860, 520);
const FONT: &str = "sans-serif";

impl Plot {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = if self.log {
            let range = self.y_range();
            let ticks = log_ticks(&range);
            self.draw(&root, range.log_scale().with_key_points(ticks))
        } else {
            self.draw(&root, self.y_range())
        };
        drawn.expect("drawing into memory does not fail");
        drop(root);
        svg
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let values = self.curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
        let values = values.chain(self.level.iter().map(|level| level.0));
        values.filter(|&y| self.shows(y))
    }

    fn shows(&self, y: f64) -> bool {
        y.is_finite() && !(self.log && y <= 0.0)
    }

    /// All values with some room around them.
    fn y_range(&self) -> Range<f64> {
        let low = self.values().fold(f64::INFINITY, f64::min);
        let high = self.values().fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return 0.1..1.0;
        }
        if self.log {
            return low / 1.5..high * 1.5;
        }
        let room = if high > low { 0.06 * (high - low) } else { 0.5 };
        low - room..high + room
    }

    fn draw<Y>(
        &self,
        root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        y_range: Y,
    ) -> Result<(), Box<dyn Error>>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        root.fill(&WHITE)?;
        let last = self.curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
        let last = last.fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(root)
            .caption(&self.title, (FONT, 20))
            .margin(14)
            .margin_right(26)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..last, y_range)?;
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_label_formatter(&|x| format!("{x}"))
            .y_label_formatter(&|y| short(*y))
            .axis_desc_style((FONT, 16))
            .label_style((FONT, 14))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRAY)
            .draw()?;
        for curve in &self.curves {
            let points = curve.points.iter().copied().filter(|point| self.shows(point.1));
            let style = curve.color.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(&curve.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        }
        if let Some((y, label)) = &self.level
            && self.shows(*y)
        {
            let ends = [(0.0, *y), (last, *y)];
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
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(12)
            .legend_area_size(32)
            .label_font((FONT, 15))
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .draw()?;
        root.present()?;
        Ok(())
    }
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

/// A number with as many digits as a tick of an axis needs.
fn short(x: f64) -> String {
    let text = format!("{x:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(log: bool, points: Vec<(f64, f64)>) -> String {
        let curves = vec![Curve { label: "curve".to_owned(), color: BLUE, points }];
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
        }
        .svg()
    }

    #[test]
    fn documents_are_complete() {
        for log in [false, true] {
            let svg = plot(log, vec![(0.0, 1.0), (1.0, 0.7), (2.0, f64::NAN), (3.0, 0.0)]);
            assert!(svg.trim_end().ends_with("</svg>"));
            for text in ["title", "iteration", "curve", "level", "mark"] {
                assert!(svg.contains(text), "{text}");
            }
            assert!(!svg.contains("NaN"));
        }
    }

    #[test]
    fn degenerate_curves_can_be_drawn() {
        for log in [false, true] {
            for points in [vec![], vec![(0.0, 0.5)], vec![(0.0, f64::INFINITY)]] {
                assert!(plot(log, points).contains("</svg>"));
            }
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
    }
}
