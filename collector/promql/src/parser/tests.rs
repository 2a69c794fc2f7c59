//! What the parser accepts, how it prints it, and where it points when it does not.

use proptest::prelude::*;

use super::*;

fn message(query: &str) -> String {
    match parse(query) {
        Ok(expr) => panic!("{query} parses as {expr}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn errors_say_where_and_what() {
    for (query, expected) in [
        ("", "1:1: parse error: no expression found in input"),
        ("1+", "1:3: parse error: unexpected end of input"),
        ("foo(", "1:5: parse error: unclosed left parenthesis"),
        ("foo[5m", "1:7: parse error: unclosed left bracket"),
        ("foo{", "1:5: parse error: unexpected end of input inside braces"),
        ("foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string"),
        ("foo{}{}", "1:6: parse error: unexpected \"{\""),
        ("{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("{__name__=\"x\",\"y\"}", "1:1: parse error: metric name must not be set twice: \"y\" or \"x\""),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        ("foo by (a)", "1:5: parse error: unexpected <by>"),
        ("foo +\n+\n  sum(1)", "3:7: parse error: expected type instant vector in aggregation expression, got scalar"),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators"),
        ("foo and on(a) group_left bar", "1:1: parse error: no grouping allowed for \"and\" operation"),
        ("1 and foo", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("round(foo,1,2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3"),
        ("abs(foo,)", "1:8: parse error: trailing commas not allowed in function call args"),
        ("unknown(foo)", "1:1: parse error: unknown function with name \"unknown\""),
        (
            "sum by (a b) (foo)",
            "1:11: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"",
        ),
        ("foo[0s]", "1:5: parse error: duration must be greater than 0"),
        ("foo[1m:0s]", "1:8: parse error: duration must be greater than 0"),
        ("foo[1h/0]", "1:5: parse error: division by zero"),
        ("foo offset 1e300", "1:12: parse error: duration out of range"),
        ("foo offset inf", "1:12: parse error: duration out of range"),
        ("foo[NaN]", "1:5: parse error: duration out of range"),
        ("foo @ inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
        ("sum(foo)[5m]", "1:9: parse error: ranges only allowed for vector selectors"),
        ("foo[5m][5m:]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"),
        ("'x\\q'", "1:1: parse error: unknown escape sequence U+0071 'q'"),
        ("1x", "1:1: parse error: bad number or duration syntax: \"1x\""),
    ] {
        assert_eq!(message(query), expected, "{query}");
    }
}

#[test]
fn queries_print_in_one_form() {
    for (query, printed) in [
        ("SUM(foo) BY (a,)", "sum by (a) (foo)"),
        ("sum without() (foo)", "sum without () (foo)"),
        ("foo{a='b',c!~`d.*`,}", "foo{a=\"b\",c!~\"d.*\"}"),
        ("{\"a.b\", \"c d\"='e'}", "{\"a.b\",\"c d\"=\"e\"}"),
        ("{__name__=~\"a|b\"}", "{__name__=~\"a|b\"}"),
        ("foo[300] offset -1h30m @ 5", "foo[5m] @ 5.000 offset -1h30m"),
        ("foo[1h:] @ start()", "foo[1h:] @ start()"),
        ("foo[step()+1:min_of(1m,range())]", "foo[step() + 1s:min_of(1m, range())]"),
        ("-1^2", "-1 ^ 2"),
        ("a*-b", "a * -b"),
        ("2^3^2", "2 ^ 3 ^ 2"),
        ("1+(2-3)", "1 + (2 - 3)"),
        ("0x1f + 1e3 + 5m", "31 + 1000 + 5m"),
        ("-Inf", "-Inf"),
        ("-inf ^ +Inf", "-Inf ^ Inf"),
        ("a == bool on(x) group_left b", "a == bool on (x) group_left () b"),
        ("a / ignoring() b", "a / b"),
        ("\"a\\n\\xff\"", "\"a\\n\\xff\""),
        ("sum # the rest is a comment\n(foo)", "sum(foo)"),
        ("sum + by", "sum + by"),
        ("{\"inf\"} + {\"on\"}", "{\"inf\"} + {\"on\"}"),
    ] {
        let expr = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(expr.to_string(), printed);
        assert_eq!(parse(printed).unwrap().to_string(), printed);
    }
}

#[test]
fn operators_bind_as_documented() {
    for (query, grouped) in [
        ("a or b and c", "a or (b and c)"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a ^ b ^ c", "a ^ (b ^ c)"),
        ("-a ^ b", "-(a ^ b)"),
        ("a > b + c", "a > (b + c)"),
        ("a unless b or c", "(a unless b) or c"),
        ("a % b atan2 c", "(a % b) atan2 c"),
    ] {
        fn shape(expr: &Expr) -> String {
            match expr {
                Expr::Paren(paren) => shape(&paren.expr),
                Expr::Unary(unary) => format!("[{}]", shape(&unary.expr)),
                Expr::Binary(b) => format!("[{} {} {}]", shape(&b.lhs), b.op.as_str(), shape(&b.rhs)),
                other => other.to_string(),
            }
        }
        assert_eq!(shape(&parse(query).unwrap()), shape(&parse(grouped).unwrap()), "{query}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    for (open, middle, close) in
        [("(", "1", ")"), ("-", "a", ""), ("abs(", "a", ")"), ("1+", "1", ""), ("2^", "2", ""), ("a[1m+(", "1", ")]")]
    {
        let deep = |n: usize| format!("{}{middle}{}", open.repeat(n), close.repeat(n));
        let error = message(&deep(30_000));
        assert!(error.contains("nested deeper") || error.contains("parse error"), "{error}");
    }
    assert!(parse(&format!("{}1{}", "(".repeat(150), ")".repeat(150))).is_ok());
    let many = vec!["a{b=~\"c.*\"}"; MAX_REGEXES + 1].join(",");
    assert!(message(&format!("label_join({many})")).contains("regular expressions"));
    assert!(message("a{b=~\"(\\\\pL{900}){900}\"}").contains("error parsing regexp"));
    assert!(message(&"a".repeat(MAX_QUERY_BYTES + 1)).contains("bytes long"));
}

#[test]
fn a_selector_alone_gives_its_matchers() {
    let matchers = parse_selector("up{job=~\"a|b\"}").unwrap();
    assert_eq!(matchers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["job=~\"a|b\"", "__name__=\"up\""]);
    assert!(parse_selector("up[5m]").is_err());
    assert!(parse_selector("up offset 5m").is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(query in "\\PC{0,60}") {
        let _ = parse(&query);
    }

    #[test]
    fn what_parses_prints_and_parses_again(
        query in "(sum|rate|a|b|by|on|bool|offset|@|start|step|inf|1|5m|\"x\"|[-+*/^%(){}\\[\\],:=!~<> ]){1,24}",
    ) {
        if let Ok(expr) = parse(&query) {
            let printed = expr.to_string();
            let again = parse(&printed).map_err(|e| TestCaseError::fail(format!("{query} -> {printed}: {e}")))?;
            prop_assert_eq!(again.to_string(), printed);
        }
    }
}
