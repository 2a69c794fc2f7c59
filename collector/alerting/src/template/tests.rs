//! What templates print, compared with what `promtool test rules` 2.42 printed for the same text.

use proptest::prelude::*;

use super::*;

const VALUE: f64 = 123_456_789.0;

fn render(text: &str, value: f64) -> Result<String, TemplateError> {
    let labels = LabelSet::new([("__name__", "x"), ("a", "b")]);
    let query = |expr: &str| match expr {
        "x" => Ok(vec![Row { labels: labels.clone(), value }]),
        "nosuch" => Ok(Vec::new()),
        other => Err(format!("cannot parse {other}")),
    };
    let context = Context {
        labels: &labels,
        value,
        now_ms: 60_000,
        external_labels: &LabelSet::empty(),
        external_url: "http://w/p",
        query: &query,
    };
    Template::parse(text)?.render(&context)
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(render(text, VALUE).as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn values_print_as_go_prints_them() {
    check(&[
        ("{{ $value }} {{ .Value }} {{ $labels }}", "1.23456789e+08 1.23456789e+08 map[__name__:x a:b]"),
        ("{{ 1e6 }} {{ 0.00001 }} {{ 1e-4 }} {{ 100000 }} {{ 100000.0 }}", "1e+06 1e-05 0.0001 100000 100000"),
        ("{{ 1234567.0 }} {{ 12345.678 }} {{ 1.0 }} {{ -0.5 }}", "1.234567e+06 12345.678 1 -0.5"),
        (r#"{{ print "a" 1 2 "b" }}|{{ println "a" 1 }}|{{ print $value 2.0 }}"#, "a1 2b|a 1\n|1.23456789e+08 2"),
        ("{{ 1.5 | toTime }} {{ 90.5 | toDuration }}", "1970-01-01 00:00:01.5 +0000 UTC 1m30.5s"),
        (r#"{{ parseDuration "1h" }} {{ $labels.nosuch }}|{{ .Labels.a }}"#, "3600 |b"),
    ]);
    assert_eq!(render("{{ $value }}", f64::INFINITY).as_deref(), Ok("+Inf"));
    assert_eq!(render("{{ $value | humanize }}", f64::NAN).as_deref(), Ok("NaN"));
    assert_eq!(render("{{ $value }}", 0.1 + 0.2).as_deref(), Ok("0.30000000000000004"));
}

#[test]
fn printf_is_gos() {
    check(&[
        (r#"{{ printf "%8.2f|%+d" $value 3 }}"#, "123456789.00|+3"),
        (
            r#"{{ printf "%6.2e|%q|%s|%v|%f|%.1f" $value "a\"b" "c" $labels $value -0.05 }}"#,
            r#"1.23e+08|"a\"b"|c|map[__name__:x a:b]|123456789.000000|-0.1"#,
        ),
        (r#"{{ printf "%+.2f|%-8s|%08.3f|% d|%x" 1.5 "ab" -3.14159 5 255 }}"#, "+1.50|ab      |-003.142| 5|ff"),
        (
            r#"{{ printf "%5.1f%%" 3.14159 }} {{ printf "%v" 0.1 }} {{ printf "%.3g" 1234.5 }} {{ printf "%t" true }}"#,
            "  3.1% 0.1 1.23e+03 true",
        ),
        (r#"{{ $value | printf "%.2f"}}"#, "123456789.00"),
    ]);
}

#[test]
fn humanizers_are_prometheus() {
    check(&[
        ("{{ humanize 0.00012 }} {{ humanize 1.0 }} {{ humanize 999.99 }} {{ humanize 99999.5 }}", "120u 1 1000 100k"),
        (r#"{{ humanize1024 2048.0 }} {{ humanize1024 0.5 }} {{ humanize "1e7" }}"#, "2ki 0.5 10M"),
        ("{{ humanizePercentage 0.12345 }} {{ humanizeDuration 0.0012 }}", "12.35% 1.2ms"),
        ("{{ humanizeDuration 3661.0 }} {{ humanizeDuration 100000.0 }}", "1h 1m 1s 1d 3h 46m 40s"),
        ("{{ humanizeDuration -5.5 }} {{ humanizeDuration 59.99999 }}", "-5.5s 60s"),
        (
            "{{ $value | humanizeDuration }} {{ 123456789.5 | humanizeTimestamp }}",
            "1428d 21h 33m 9s 1973-11-29 21:33:09.5 +0000 UTC",
        ),
    ]);
}

#[test]
fn templates_within_templates() {
    check(&[
        (r#"{{ define "n" }}<{{ . }}>{{ end }}{{ template "n" 5 }}{{ tmpl "n" "x" | toUpper }}"#, "<5><X>"),
        (r#"{{ block "b" .Value }}{{ . | humanize }}{{ end }} {{ template "b" 2000.0 }}"#, "123.5M 2k"),
        (r#"{{ range query "x" }}a{{ break }}b{{ end }}{{ range query "x" }}c{{ continue }}d{{ end }}"#, "ac"),
        (
            r#"{{ define "a" }}{{ args 1 "x" | len }}{{ end }}{{ (args 1 "x").arg1 }}{{ args 1 "x" }}"#,
            "xmap[arg0:1 arg1:x]",
        ),
    ]);
    for (text, message) in [
        (r#"{{ template "none" }}"#, "is not defined"),
        (r#"{{ define "r" }}{{ template "r" }}{{ end }}{{ template "r" }}"#, "nested deeper"),
        (r#"{{ define "v" }}{{ $value }}{{ end }}"#, "is not declared"),
        (r#"{{ if true }}{{ define "v" }}{{ end }}{{ end }}"#, "belongs on the outside"),
        ("{{ break }}", "outside of a range"),
        (r#"{{ define "v" }}"#, "without its"),
        ("{{ template x }}", "name is missing"),
    ] {
        let error = render(text, VALUE).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn blocks_variables_and_queries() {
    check(&[
        ("{{ if gt $value 10.0 }}big{{ else if gt $value 5.0 }}mid{{ else }}small{{ end -}}   x", "bigx"),
        ("{{ with $labels.foo }}a{{else}}b{{end}} {{ eq $value 5.0 }} {{ not true }}", "b false false"),
        (
            r#"{{ range query "x" }}{{ .Labels.a }}={{ .Value }} {{ end }}{{ range $i, $e := query "x" }}{{$i}} {{$e.Value}}{{end}}"#,
            "b=1.23456789e+08 0 1.23456789e+08",
        ),
        (r#"{{ range query "nosuch" }}a{{ else }}none{{ end }}"#, "none"),
        (r#"{{ query "x" | first | value | printf "%.3f" }} {{ query "x" | first | label "a" }}"#, "123456789.000 b"),
        (
            r#"{{ sortByLabel "a" (query "x") | first | strvalue }}|{{ query "x" | first }}"#,
            "|{map[__name__:x a:b] 1.23456789e+08}",
        ),
        (r#"{{ len $labels }} {{ index $labels "a" }} {{ and true $value }} {{ or "" "x" }}"#, "2 b 1.23456789e+08 x"),
        ("a {{- /* note */ -}} b{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "ab2"),
        ("{{ if and $labels.nosuch (first (query \"nosuch\")) }}a{{ end }}ok", "ok"),
        ("{{`raw \"}}`}}{{ \"{{\" }}", "raw \"}}{{"),
    ]);
}

#[test]
fn texts() {
    check(&[
        (
            r#"{{ "a-b c" | title }} {{ "x" | toUpper }} {{ "h:80" | stripPort }} {{ stripPort "[::1]:80" }}"#,
            "A-B C X h ::1",
        ),
        (r#"{{ stripDomain "a.b.c:80" }} {{ stripDomain "10.0.0.1" }}"#, "a:80 10.0.0.1"),
        (r#"{{ reReplaceAll "(.)b" "${1}c" "abab" }} {{ match "a+" "baa" }}"#, "acac true"),
        (
            r#"{{ externalURL }} {{ pathPrefix }} {{ graphLink "up{a=\"b\"}" }}"#,
            "http://w/p /p /graph?g0.expr=up%7Ba%3D%22b%22%7D&g0.tab=0",
        ),
    ]);
}

#[test]
fn mistakes_are_found_when_the_file_is_loaded() {
    for (text, part) in [
        ("{{ $value", "expected a space, | or }}"),
        ("{{ $valu }}", "variable $valu is not declared"),
        ("{{ $value | humanise }}", "there is no function \"humanise\""),
        ("{{ if $value }}x", "without its {{ end }}"),
        ("{{ end }}", "without its {{ if }}"),
        ("{{ }}", "missing"),
        ("{{ define x }}{{ end }}", "name is missing"),
        ("{{ \"x }}", "closing"),
        ("{{ 1 2 }}", "only a function takes arguments"),
        ("{{ range $x := query \"x\" }}{{ end }}{{ $x }}", "not declared"),
        (&"{{ if true }}".repeat(100), "nested deeper"),
        (&("{{".to_owned() + &"(".repeat(500)), "nested deeper"),
    ] {
        let error = Template::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn failures_say_what_failed() {
    for (text, part) in [
        ("{{ query \"nosuch\" | first | value }}", "first: the query gave no rows"),
        ("{{ query \"(\" }}", "query: cannot parse ("),
        ("{{ .Foo }}", "no field .Foo"),
        ("{{ $labels.a.b }}", "a text has no field .b"),
        ("{{ printf \"%d\" $value }}", "%d does not print a number"),
        ("{{ eq $value \"x\" }}", "cannot compare"),
        ("{{ printf \"%99999d\" 1 }}", "width"),
        (
            "{{ range $labels }}{{ range $labels }}{{ printf \"%250s%250s%250s%250s\" \"a\" \"a\" \"a\" \"a\" }}{{ printf \"%250s%250s%250s%250s\" \"a\" \"a\" \"a\" \"a\" }}{{ printf \"%250s%250s%250s%250s\" \"a\" \"a\" \"a\" \"a\" }}{{ printf \"%250s%250s%250s%250s\" \"a\" \"a\" \"a\" \"a\" }}{{ printf \"%250s%250s%250s%250s\" \"a\" \"a\" \"a\" \"a\" }}{{ end }}{{ end }}",
            "more than",
        ),
    ] {
        let error = render(text, VALUE).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn literals_are_known() {
    assert!(Template::parse("plain").unwrap().literal().is_some());
    assert!(Template::parse("").unwrap().literal().is_some());
    assert!(Template::parse("{{ $value }}").unwrap().literal().is_none());
    assert!(Template::parse("{{/* c */}}").unwrap().literal().is_none());
}

proptest! {
    #[test]
    fn no_text_panics_the_parser(text in r#"(\{\{|\}\}|-| |if|else|end|range|with|\$value|\$labels|\.|x|"|`|\(|\)|\||:=|,|1|é|printf "%[-+0]?[0-9]*\.?[0-9]*[a-z]"|humanize|/\*|\*/){0,30}"#) {
        let _ = render(&text, 1.5);
    }

    #[test]
    fn any_text_without_braces_is_itself(text in "[^{}]{0,50}") {
        prop_assert_eq!(render(&text, 1.0), Ok(text));
    }

    #[test]
    fn the_shortest_form_reads_back(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let text = gofmt::shortest(value);
        let back: f64 = text.parse().unwrap();
        prop_assert!(back == value || (back.is_nan() && value.is_nan()), "{} {}", value, text);
    }
}
