//! A small writer of bar charts as SVG: panels of horizontal bars, readable at a glance, in a light and a dark page.

use std::fmt::Write;

/// A picture.
#[derive(Debug)]
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// How to read it, and on what it was measured.
    pub notes: Vec<String>,
    /// One below the other.
    pub panels: Vec<Panel>,
    /// Whether all panels have the same scale, so that bars of two panels can be compared.
    pub has_one_scale: bool,
}

/// Bars that share a scale.
#[derive(Debug)]
pub struct Panel {
    /// What is compared.
    pub title: String,
    /// The unit of the figures.
    pub unit: &'static str,
    /// From the top.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug)]
pub struct Bar {
    /// Whose it is.
    pub label: String,
    /// The class of the system: its colour in every picture.
    pub system: &'static str,
    /// Whether it is ours.
    pub is_ours: bool,
    /// The figure, the lowest and the highest round; none: absent.
    pub figure: Option<(f64, f64, f64)>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 178.0;
const BAR_MOST: f64 = 470.0;
const ROW: f64 = 23.0;
const BAR: f64 = 14.0;
const MARGIN: f64 = 20.0;

/// Mid tones of the Okabe-Ito palette: apart from each other for most eyes, on white and on black.
const STYLE: &str = "
svg { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; }
.page { fill: #ffffff; } text { fill: #1f2328; font-size: 13px; } .title { font-size: 18px; font-weight: 600; }
.note, .unit, .value, .absent { fill: #59636e; } .note, .unit { font-size: 12px; } .absent { font-style: italic; }
.panel { font-size: 14px; font-weight: 600; } .ours { font-weight: 700; } .value.ours { fill: #1f2328; }
.axis { stroke: #d1d9e0; } .spread { stroke: #1f2328; stroke-width: 1.2; opacity: 0.55; }
rect.theirs { opacity: 0.62; }
.wsguard { fill: #0072b2; } .bun { fill: #c98a00; } .ws { fill: #b8578f; } .websockets { fill: #d55e00; }
.picows { fill: #00916a; } .socketify { fill: #8a8a1f; } .tungstenite { fill: #7d7d7d; } .fastwebsockets { fill: #8f6f4f; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } text { fill: #f0f6fc; } .note, .unit, .value, .absent { fill: #9198a1; }
  .value.ours { fill: #f0f6fc; } .axis { stroke: #3d444d; } .spread { stroke: #f0f6fc; }
  rect.theirs { opacity: 0.75; } .wsguard { fill: #4aa8e0; }
}
";

impl Picture {
    /// The SVG document.
    pub fn svg(&self) -> String {
        let mut body = String::new();
        let mut y = MARGIN + 16.0;
        text(&mut body, "title", MARGIN, y, &self.title);
        for note in &self.notes {
            y += 19.0;
            text(&mut body, "note", MARGIN, y, note);
        }
        let most = self.panels.iter().map(Panel::most).fold(0.0, f64::max);
        for panel in &self.panels {
            y = panel.draw(&mut body, y + 34.0, if self.has_one_scale { most } else { panel.most() });
        }
        let height = y + MARGIN;
        let title = escaped(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
        )
    }
}

impl Panel {
    fn most(&self) -> f64 {
        self.bars.iter().filter_map(|bar| bar.figure).map(|(_, _, highest)| highest).fold(0.0, f64::max)
    }

    /// Draws it from `top` on, with room for bars up to `most`; where it ends.
    fn draw(&self, out: &mut String, top: f64, most: f64) -> f64 {
        text(out, "panel", MARGIN, top, &self.title);
        let _ = writeln!(
            out,
            "<text class=\"unit\" x=\"{}\" y=\"{top}\" text-anchor=\"end\">{}</text>",
            WIDTH - MARGIN,
            escaped(self.unit)
        );
        let first = top + 12.0;
        let end = first + ROW * self.bars.len() as f64;
        let _ = writeln!(out, "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{first}\" x2=\"{LEFT}\" y2=\"{end}\"/>");
        let scale = if most > 0.0 { BAR_MOST / most } else { 0.0 };
        for (number, bar) in self.bars.iter().enumerate() {
            bar.draw(out, first + ROW * number as f64, scale);
        }
        end
    }
}

impl Bar {
    fn draw(&self, out: &mut String, top: f64, scale: f64) {
        let (whose, middle) = (if self.is_ours { "ours" } else { "theirs" }, top + ROW / 2.0);
        let baseline = middle + 4.5;
        let _ = writeln!(
            out,
            "<text class=\"{whose}\" x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            escaped(&self.label)
        );
        let Some((figure, lowest, highest)) = self.figure else {
            return text(out, "absent", LEFT + 6.0, baseline, "absent in this run");
        };
        let _ = writeln!(
            out,
            "<rect class=\"{} {whose}\" x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            self.system,
            middle - BAR / 2.0,
            (figure * scale).max(1.0)
        );
        let _ = writeln!(
            out,
            "<line class=\"spread\" x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\"/>",
            LEFT + lowest * scale,
            LEFT + highest * scale
        );
        text(out, &format!("value {whose}"), LEFT + highest * scale + 7.0, baseline, &in_short(figure));
    }
}

/// Three digits that matter.
fn in_short(figure: f64) -> String {
    match figure {
        large if large >= 99.95 => format!("{large:.0}"),
        middle if middle >= 9.995 => format!("{middle:.1}"),
        small if small >= 0.9995 => format!("{small:.2}"),
        tiny => format!("{tiny:.3}"),
    }
}

fn text(out: &mut String, class: &str, x: f64, y: f64, content: &str) {
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(content));
}

fn escaped(content: &str) -> String {
    content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, is_ours: bool, figure: Option<f64>) -> Bar {
        let figure = figure.map(|figure| (figure, figure * 0.9, figure * 1.25));
        Bar { label: label.to_owned(), system: "ws", is_ours, figure }
    }

    fn picture() -> String {
        let bars = vec![bar("ours", true, Some(1.0)), bar("a <b> & c", false, Some(4.0)), bar("gone", false, None)];
        let panels = vec![Panel { title: "echo".to_owned(), unit: "µs", bars }];
        Picture { title: "Cost".to_owned(), notes: vec!["lower is better".to_owned()], panels, has_one_scale: false }
            .svg()
    }

    /// The widths of the bars, in order.
    fn widths(svg: &str) -> Vec<f64> {
        let bars = svg.lines().filter(|line| line.starts_with("<rect class=\"ws "));
        bars.map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn bars_are_as_long_as_their_figures() {
        assert_eq!(widths(&picture()), [BAR_MOST / 5.0, BAR_MOST * 4.0 / 5.0]);
    }

    #[test]
    fn ours_is_marked_and_who_is_absent_is_named() {
        let svg = picture();
        assert!(svg.contains("<rect class=\"ws ours\"") && svg.contains("<rect class=\"ws theirs\""));
        assert!(svg.contains(">gone</text>") && svg.contains("absent in this run"));
    }

    #[test]
    fn every_tag_is_closed_and_content_is_escaped() {
        let svg = picture();
        assert!(svg.contains("a &lt;b&gt; &amp; c"));
        for tag in ["text", "svg", "style"] {
            assert_eq!(svg.matches(&format!("<{tag}")).count(), svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert_eq!(svg.matches("<rect").count() + svg.matches("<line").count(), svg.matches("/>").count());
    }

    #[test]
    fn figures_are_written_with_three_digits() {
        let written: Vec<_> = [0.3194, 0.9999, 4.708, 13.92, 376.3].map(in_short).into();
        assert_eq!(written, ["0.319", "1.00", "4.71", "13.9", "376"]);
    }
}
