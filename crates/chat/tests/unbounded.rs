//! Templates that nest, grow or run on: each is refused or rendered, and none ends the process.

use std::process::Command;

use serde_json::json;
use smpo_chat::{ChatError, ChatTemplate, Conversation, Message, TemplateInputs};

fn render(source: &str) -> Result<String, ChatError> {
    ChatTemplate::from_source(source, "t.jinja")?.render(&[Message::user("a")][..], false)
}

fn repeated(head: &str, part: &str, times: usize, tail: &str) -> String {
    format!("{head}{}{tail}", part.repeat(times))
}

#[test]
fn expressions_as_deep_as_a_text_is_long_end_no_process() {
    for (head, part, tail) in [
        ("{{ ", "-", "1 }}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ a", ".b", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ 'a'", "|upper", " }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ 1", " and 1", " }}"),
        ("{{ 1", " ~ 1", " }}"),
        ("{{ 1", " if 1 else 1", " }}"),
        ("{% if a %}", "{% elif b %}", "{% endif %}"),
        ("{{ ", "(", "1 }}"),
        ("", "{% if 1 %}", ""),
    ] {
        let times = (200 << 10) / part.len();
        // Parsed, rendered or refused, but over.
        let _ = render(&repeated(head, part, times, tail));
    }
    let long = render(&"a".repeat(300 << 10)).unwrap_err().to_string();
    assert_eq!(long, "t.jinja: the chat template does not parse: expected at most 262144 bytes, got 307200");
    assert!(render(&"a".repeat(256 << 10)).is_ok());
}

#[test]
fn values_as_deep_as_the_instructions_allow_end_no_process() {
    let nest = "{% set ns = namespace(x=[1]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    assert_eq!(render(&format!("{nest}ok")).unwrap(), "ok");
    let shown = render(&format!("{nest}{{{{ ns.x }}}}")).unwrap();
    assert!(shown.starts_with("[[[[") && shown.contains("[...]"), "{}", &shown[..20]);
    let refused = render(&format!("{nest}{{{{ ns.x|tojson }}}}")).unwrap_err().to_string();
    assert!(refused.contains("tojson: expected a value nested at most 500 deep"), "{refused}");
}

#[test]
fn five_hundred_containers_in_each_other_are_shown_and_one_more_is_not() {
    let nested = |innermost: &str, around: &str, times: usize, filter: &str| {
        let loops = format!("{{% for i in range({times}) %}}{{% set ns.x = {around} %}}{{% endfor %}}");
        render(&format!("{{% set ns = namespace(x={innermost}) %}}{loops}{{{{ ns.x | {filter} }}}}"))
    };
    let lists = |depth: usize, filter: &str| nested("[]", "[ns.x]", depth - 1, filter);
    let brackets = |depth: usize, within: &str| format!("{}{within}{}", "[".repeat(depth), "]".repeat(depth));
    for filter in ["string", "tojson"] {
        assert_eq!(lists(500, filter).unwrap(), brackets(500, ""));
    }
    assert_eq!(lists(501, "string").unwrap(), brackets(500, "..."));
    assert!(lists(501, "tojson").is_err());
    assert!(nested("{}", "{'a': ns.x}", 499, "tojson").is_ok() && nested("{}", "{'a': ns.x}", 500, "tojson").is_err());
    assert!(nested("{}", "{'a': ns.x}", 500, "string").unwrap().contains("{'a': ...}"));
}

#[test]
fn the_order_of_lists_is_found_five_hundred_deep() {
    let sorted = |times: usize| {
        let nest =
            format!("{{% for i in range({times}) %}}{{% set ns.x = [ns.x] %}}{{% set ns.y = [ns.y] %}}{{% endfor %}}");
        render(&format!("{{% set ns = namespace(x=1, y=2) %}}{nest}{{{{ [ns.y, ns.x] | sort | first == ns.x }}}}"))
    };
    assert_eq!(sorted(500).unwrap(), "True");
    assert!(sorted(501).unwrap_err().to_string().contains("have none"));
}

#[test]
fn a_template_that_runs_on_is_told_by_its_instructions() {
    let counts = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}";
    let error = render(counts).unwrap_err().to_string();
    let expected = "t.jinja: the chat template did not end within 5000000 instructions; it loops, or repeats its input without bound";
    assert_eq!(error, expected);
}

#[test]
fn a_template_may_write_sixteen_times_what_it_is_given_and_16_mib() {
    let given = "x".repeat(1 << 20);
    let render = |source: &str| {
        let template = ChatTemplate::from_source(source, "t.jinja").unwrap();
        template.render(&[Message::user(given.as_str())][..], false).map(|text| text.len())
    };
    let full = "{% for i in range(32) %}{{ messages[0].content }}{% endfor %}";
    assert_eq!(render(full).unwrap(), 32 << 20);
    let error = render(&format!("{full}x")).unwrap_err().to_string();
    assert!(error.contains("33554432 bytes of output"), "{error}");
}

#[test]
fn all_texts_that_a_template_is_given_count() {
    let message = Message::user("12345").with_field("tool", json!([true, "ab", { "key": null }])); // 5 + 4 + 8 + 2 + 3 + 8
    let kwargs = json!({ "on": "yes" }); // 2 + 3
    let inputs = TemplateInputs {
        tools: vec![json!("t")],
        documents: vec![json!({ "d": "doc" })],
        chat_template_kwargs: kwargs.as_object().unwrap().clone(),
    };
    let template =
        ChatTemplate::from_source("{% for i in range(90000) %}{{ 'x' * 999 }}{% endfor %}", "t.jinja").unwrap();
    let error = template.render(Conversation { messages: &[message], inputs: &inputs }, false).unwrap_err().to_string();
    let limit = (16 << 20) + 16 * (30 + 5 + 1 + 4);
    assert!(error.contains(&format!("{limit} bytes of output")), "{error}");
}

#[test]
fn a_namespace_in_itself_is_refused() {
    let made = "{% set ns = namespace(a=1) %}{% set other = namespace() %}";
    for own in [
        "{% set ns.x = ns %}",
        "{% set ns.x = [1, {'a': (ns,)}] %}",
        "{% set other.x = ns %}{% set ns.x = other %}",
        "{% set list = [ns] %}{% set ns.x = list %}",
        "{% macro put(m, v) %}{% set m.x = v %}{% endmacro %}{{ put(ns, ns) }}",
        "{% for n in [ns] %}{% set n.x = n %}{% endfor %}",
        "{% set ns.x = [ns] | select %}",
        "{% set ns.x = [1] + [ns] %}",
        "{% set ns.x = {'a': ns}.values() %}",
        "{% with n = ns %}{% set n.x = n %}{% endwith %}",
        "{% set ns.x, other.x = other, ns %}",
    ] {
        for printed in ["{{ ns ~ '' }}", "{{ ns }}", "{{ ns|tojson }}", "{{ [ns]|join }}", "{{ ns == other }}"] {
            let error = render(&format!("{made}{own}{printed}")).unwrap_err().to_string();
            assert!(error.contains("a namespace is put into a namespace"), "{own}{printed}: {error}");
        }
    }
    let looked_through =
        "{% set ns.x = [1, 2] | map('string') %}{% set ns.y = {'a': 1}.items() %}{{ ns.x | list }}{{ ns.y | list }}";
    assert_eq!(render(&format!("{made}{{% set o = [ns] %}}{looked_through}")).unwrap(), "['1', '2'][('a', 1)]");
    let fine = "{% macro put(m, v) %}{% set m.x = v %}{% endmacro %}{{ put(ns, [1]) }}{{ ns.x ~ ns.a }}";
    assert_eq!(render(&format!("{made}{fine}")).unwrap(), "[1]1");
}

#[test]
fn no_filter_takes_memory_by_a_number() {
    for filter in
        ["indent(10000000000)", "indent(width=10000000000)", "batch(1000000000, 0)|list", "slice(100000000)|list"]
    {
        let error = render(&format!("{{{{ 'x\ny'|{filter} }}}}")).unwrap_err().to_string();
        assert!(error.contains("expected at most 10000, got 10"), "{error}");
    }
    for filter in ["indent(10000)", "batch(10000)|list", "slice(10000)|list"] {
        assert!(render(&format!("{{{{ 'x'|{filter} }}}}")).is_ok(), "{filter}");
    }
    assert_eq!(render("{{ 'x\ny'|indent(2) }}{{ 'x\ny'|indent(width=1, first=true) }}").unwrap(), "x\n  y x\n y");
    assert_eq!(
        render("{{ [1, 2, 3]|batch(2, 0)|list }}{{ [1, 2]|slice(2)|list }}").unwrap(),
        "[[1, 2], [3, 0]][[1], [2]]"
    );
}

/// A process of its own takes the memory: a template that is given up cannot be stopped.
#[test]
fn a_text_that_doubles_is_given_up_and_its_template_stays_refused() {
    const CHILD: &str = "SMPO_CHAT_BOUNDS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let double = "{% set ns = namespace(x='0123456789abcdef') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
        let template = ChatTemplate::from_source(double, "t.jinja").unwrap();
        for _ in 0..2 {
            let error = template.render(&[Message::user("a")][..], false).unwrap_err().to_string();
            eprintln!("{error}");
        }
        std::process::exit(7);
    }
    let name = "a_text_that_doubles_is_given_up_and_its_template_stays_refused";
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
    let child = child.unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(7), "{said}");
    assert_eq!(said.matches("t.jinja").count(), 2, "{said}");
    assert!(said.contains("1024 MiB of memory") || said.contains("30 seconds"), "{said}");
}

#[test]
fn no_method_takes_memory_by_a_number_or_by_a_product() {
    for wide in [
        "'x'.ljust(10001)",
        "'x'.rjust(99999999999)",
        "'x'.center(10001)",
        "'x'.zfill(10001)",
        "'\\t'.expandtabs(10001)",
        "'x'|center(10001)",
        "'{:10001}'.format('x')",
        "'%10001s'|format('x')",
        "'%.10001f'|format(1.5)",
    ] {
        let error = render(&format!("{{{{ {wide} }}}}")).unwrap_err().to_string();
        assert!(error.contains("expected at most 10000, got "), "{wide}: {error}");
    }
    let half = "{% set x = 'x' * 50000000 %}{% set y = 'y' * 10000 %}";
    for long in [
        "x.replace('', y)",
        "x|replace('x', y)",
        "y.join(y)",
        "y|join(y)",
        "[x, x, x]|join",
        "[x, x, x]|string",
        "(y ~ '\\n') * 5000|indent(y)",
        "('\\t' * 20000).expandtabs(9999)",
        "'{0}{0}{0}{0}'.format(x)",
        "'%s%s%s%s'|format(x, x, x, x)",
        "[(x, x), (x, x)]|urlencode",
    ] {
        let source = format!("{half}{{% set long = {} %}}", long.replace("(y ~ '\\n') * 5000", "((y ~ '\\n') * 5000)"));
        let error = render(&source).unwrap_err().to_string();
        assert!(error.contains("expected a result of at most 100000000 bytes, got more"), "{long}: {error}");
    }
}

#[test]
fn odd_code_ends_no_process() {
    for code in [
        "(",
        ")",
        "a['items'",
        "a[1:2:",
        "'\\",
        "f(a, b=",
        "(1, '",
        "{1:(",
        "[[[,,,",
        "a and",
        "and and and",
        "\u{e9}[::]",
    ] {
        for source in [
            "{{ # }}",
            "{% # %}",
            "{% macro # %}",
            "{% set # = # %}",
            "{% for # in # %}{% endfor %}",
            "{{ #",
            "{% call # %}",
        ] {
            // Parsed, rendered or refused, but over.
            let _ = render(&source.replace('#', code));
        }
    }
    for deep in ["[", "(", "{1:"] {
        let _ = render(&format!("{{{{ {}1, {} }}}}", deep.repeat(60000), ")]}".repeat(60000)));
    }
}
