"""What turns documents and sources into pages, on small texts; the whole is checked by check.mjs."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import headers
import pyapi
import sources
import tables
import typings


class Links(unittest.TestCase):
    def setUp(self):
        self.site = sources.Sources(
            {"docs/OPERATING.md": "docs/OPERATING.md", "docs/SCALING.md": "docs/SCALING.md", "README.md": "overview.md"}
        )

    def converted(self, text, source="docs/OPERATING.md", place="docs/OPERATING.md"):
        return self.site.convert(text, source, place)

    def test_a_page_is_reached_where_it_is(self):
        self.assertEqual(self.converted("[a](SCALING.md#when)"), "[a](SCALING.md#when)")
        self.assertEqual(self.converted("[a](../README.md#speed)"), "[a](../overview.md#speed)")
        self.assertEqual(self.converted("[a](../README.md#options)"), "[a](../reference/options.md#options)")

    def test_a_part_on_another_page_keeps_its_anchors(self):
        self.assertEqual(self.converted("[a](#bans)"), "[a](#bans)")
        self.assertEqual(self.converted("[a](#bans)", place="reference/verdicts.md"), "[a](../docs/OPERATING.md#bans)")

    def test_a_source_file_becomes_a_page_of_its_own(self):
        self.assertEqual(self.converted("[a](alerts.yml)"), "[a](../source/docs/alerts.yml.md)")
        self.assertIn("WsguardStuck", self.site.pages["source/docs/alerts.yml.md"])

    def test_code_is_left_alone(self):
        for text in ("`[a](b.md)`", "```\n[a](b.md)\n```", "```\n\n[a](b.md)\n\n```", "    [a](b.md)"):
            self.assertEqual(self.converted(text), text)

    def test_a_link_to_nothing_ends_the_build(self):
        with self.assertRaisesRegex(SystemExit, "docs/OPERATING.md: the link nowhere.md leads to nothing"):
            self.converted("[a](nowhere.md)")

    def test_a_link_over_two_lines_is_one(self):
        self.assertEqual(self.converted("[its\nguide](../README.md)"), "[its\nguide](../overview.md)")


class Markdown(unittest.TestCase):
    def test_lists_get_what_python_markdown_needs(self):
        self.assertEqual(sources.for_python_markdown("so:\n- a\n- b"), "so:\n\n- a\n- b")
        self.assertEqual(sources.for_python_markdown("- a\n  - b"), "- a\n    - b")
        self.assertEqual(sources.for_python_markdown("```\nx\n- a\n```"), "```\nx\n- a\n```")

    def test_a_section_ends_at_the_next_heading_of_its_level(self):
        text = sources.section("README.md", "Sixty seconds: Python")
        self.assertIn("server.run()", text)
        self.assertNotIn("npm install", text)
        with self.assertRaises(SystemExit):
            sources.section("README.md", "No such heading")


class Tables(unittest.TestCase):
    def test_every_option_and_verdict_has_its_place(self):
        text = tables.options(lambda text, _: text)
        for option in ("listen", "rate_limit", "server_header"):
            self.assertIn(f"{{ #{option} data-toc-label", text)
        self.assertIn("| In Node | `maxMessageBytes` |", text)
        text = tables.verdicts(lambda text, _: text)
        self.assertIn("### `origin_denied`", text)
        self.assertIn("| HTTP status | 403 |", text)
        self.assertIn("**All clients get 403?**", text)


class Interfaces(unittest.TestCase):
    def test_bodies_and_private_parts_of_cpp_are_left_out(self):
        lines = headers.public_lines(
            [
                "class a {",
                " public:",
                "  a(int x) : x_(x) {}",
                "  int get() const {",
                "    return x_;",
                "  }",
                "  a(b c) noexcept",
                "      : x_(c.get()) {}",
                " private:",
                "  class in {",
                "   public:",
                "    int y;",
                "  };",
                "  int x_;",
                "};",
            ]
        )
        self.assertEqual(lines, ["class a {", "  a(int x);", "  int get() const;", "  a(b c) noexcept;", "};"])

    def test_overloads_are_one_entry(self):
        found = typings.declarations(
            ["  /** One. */", "  on(a: string): void;", "  on(a: number): void;", "  off(): void;"], "  "
        )
        self.assertEqual([(name, doc) for name, doc, _ in found], [("on", ["One."]), ("off", [])])
        self.assertEqual(len(found[0][2]), 2)

    def test_docstrings_become_markdown(self):
        text = "\n".join(
            pyapi.words("Calls :meth:`run`::\n\n    server.run()\n\nArgs:\n    loop: ``auto``\n        or not.\n")
        )
        self.assertIn("Calls `run`:\n\n```python\nserver.run()\n```", text)
        self.assertIn("**Arguments**\n\n- `loop`: `auto`\n    or not.", text)


if __name__ == "__main__":
    unittest.main()
