/* test_template.c - templates and what Prometheus makes of them: RUL-069 to RUL-082. The expected texts are those
 * that Prometheus gives for the same template and data, to the byte. */
#include "tests/support/test.h"

#include "src/template/template.h"
#include "tests/support/oom.h"

static struct nx_err err;

#define LITERAL(s)                                                                                 \
    {                                                                                              \
        (s), sizeof(s) - 1                                                                         \
    }
#define PAIR(n, v)                                                                                 \
    {                                                                                              \
        LITERAL(n), LITERAL(v)                                                                     \
    }

static nx_status answer(void *ctx, struct nx_slice expr, struct arena *a,
                        struct template_sample **out, size_t *n, struct nx_err *e)
{
    static const struct label b[] = {PAIR("__name__", "m"), PAIR("i", "b"), PAIR("k", "x")},
                              c[] = {PAIR("__name__", "m"), PAIR("i", "a"), PAIR("k", "y")};

    (void)ctx;
    if (nx_slice_is(expr, "bad("))
        return nx_fail(e, NX_BADINPUT, "1:1: parse error: unknown function with name \"bad\"");
    *n = nx_slice_is(expr, "m") ? 2 : 0;
    *out = arena_array(a, 2, sizeof **out);
    if (!*out)
        return arena_failed(a, e);
    (*out)[0] = (struct template_sample){{b, 3}, 20};
    (*out)[1] = (struct template_sample){{c, 3}, 10};
    return NX_OK;
}

static nx_status expand(const char *text, struct buf *out)
{
    static const struct label ls[] = {PAIR("__name__", "up"), PAIR("a", "va"),
                                      PAIR("instance", "h.example.com:9100")},
                              es[] = {PAIR("cluster", "c1")};
    static const struct labels labels = {ls, 3}, external = {es, 1};
    static const struct template_data data = {.labels = &labels,
                                              .external_labels = &external,
                                              .external_url = LITERAL("http://e.x:9090/p"),
                                              .value = 1234.5,
                                              .now_ms = 60000,
                                              .query = answer};
    struct arena *a = arena_new(0);
    struct template *t = NULL;
    nx_status st = a ? NX_OK : nx_fail(&err, NX_NOMEM, "no arena");

    if (!st)
        st = template_parse_alert(&t, a, LIT("__alert_A"), STR(text), &err);
    if (!st)
        st = template_execute(t, &data, a, out, &err);
    arena_free(a);
    return st;
}

static const struct {
    const char *text, *result; /* '!': what follows the name of the template in an error */
} good[] = {
    // clang-format off
    {"x {{ $labels.instance }} {{ $value | humanize }} {{ query \"m\" | first | value }}",
     "x h.example.com:9100 1.234k 20"},
    {"{{ $value }}",
     "1234.5"},
    {"{{ .Value }} {{ .Labels.a }} {{ .ExternalURL }} {{ .ExternalLabels.cluster }}",
     "1234.5 va http://e.x:9090/p c1"},
    {"{{ $labels }}",
     "map[__name__:up a:va instance:h.example.com:9100]"},
    {"{{ $labels.nope }}|{{ $externalLabels.nope }}",
     "|"},
    {"{{ . }}",
     "{map[__name__:up a:va instance:h.example.com:9100] map[cluster:c1] http://e.x:9090/p 1234.5}"},
    {"{{ $labels.a.b }}",
     "!1:122: executing \"__alert_A\" at <$labels.a.b>: can't evaluate field b in type string"},
    {"{{ .Foo }}",
     "!1:115: executing \"__alert_A\" at <.Foo>: can't evaluate field Foo in type struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"},
    {"{{ $value.x }}",
     "!1:121: executing \"__alert_A\" at <$value.x>: can't evaluate field x in type float64"},
    {"{{ if gt $value 5 }}x{{ end }}",
     "!1:118: executing \"__alert_A\" at <gt $value 5>: error calling gt: incompatible types for comparison"},
    {"{{ if gt $value 5.0 }}yes{{ else }}no{{ end }}",
     "yes"},
    {"{{ if eq $labels.a \"va\" \"b\" }}eq{{ end }}",
     "eq"},
    {"{{ eq 1 1.0 }}",
     "!1:115: executing \"__alert_A\" at <eq 1 1.0>: error calling eq: incompatible types for comparison"},
    {"{{ eq $labels.a 5 }}",
     "!1:115: executing \"__alert_A\" at <eq $labels.a 5>: error calling eq: incompatible types for comparison"},
    {"{{ lt \"a\" \"b\" }} {{ le 1 1 }} {{ ge 2 1 }} {{ ne 1 2 }} {{ not true }}",
     "true true true true false"},
    {"{{ lt $labels $labels }}",
     "!1:115: executing \"__alert_A\" at <lt $labels $labels>: error calling lt: invalid type for comparison"},
    {"{{ eq $labels $labels }}",
     "!1:115: executing \"__alert_A\" at <eq $labels $labels>: error calling eq: non-comparable types map[__name__:up a:va instance:h.example.com:9100]: map[string]string, map[string]string: map[__name__:up a:va instance:h.example.com:9100]"},
    {"{{ and 1 0 }} {{ and 1 \"x\" }} {{ or 0 \"\" }} {{ or \"\" \"z\" }} {{ and }}",
     "!1:175: executing \"__alert_A\" at <and>: wrong number of args for and: want at least 1 got 0"},
    {"{{ or }}",
     "!1:115: executing \"__alert_A\" at <or>: wrong number of args for or: want at least 1 got 0"},
    {"{{ len $labels }} {{ len \"abc\" }} {{ len (query \"m\") }}",
     "3 3 2"},
    {"{{ len 5 }}",
     "!1:115: executing \"__alert_A\" at <len 5>: error calling len: len of type int"},
    {"{{ index $labels \"a\" }} {{ index \"abc\" 1 }} {{ index (query \"m\") 1 }}",
     "va 98 {map[__name__:m i:a k:y] 10}"},
    {"{{ index $labels 5 }}",
     "!1:115: executing \"__alert_A\" at <index $labels 5>: error calling index: value has type int; should be string"},
    {"{{ index \"abc\" 9 }}",
     "!1:115: executing \"__alert_A\" at <index \"abc\" 9>: error calling index: index out of range: 9"},
    {"{{ index $value 1 }}",
     "!1:115: executing \"__alert_A\" at <index $value 1>: error calling index: can't index item of type float64"},
    {"{{ slice \"abcdef\" 1 3 }} {{ slice \"abc\" 1 }}",
     "bc bc"},
    {"{{ slice \"abc\" 3 1 }}",
     "!1:115: executing \"__alert_A\" at <slice \"abc\" 3 1>: error calling slice: invalid slice index: 3 > 1"},
    {"{{ slice $value }}",
     "!1:115: executing \"__alert_A\" at <slice $value>: error calling slice: can't slice item of type float64"},
    {"{{ print 1 2 \"a\" \"b\" 3 4 }} {{ print \"a\" 1 }} {{ println 1 \"a\" }}",
     "1 2ab3 4 a1 1 a\n"},
    {"{{ printf \"%d %s %v %q %x %5d|%-5d|%05d %t\" 5 \"s\" \"v\" \"q\" 255 42 42 42 true }}",
     "5 s v \"q\" ff    42|42   |00042 true"},
    {"{{ printf \"%.2f %e %g %8.3f|%-8.1f|%+.1f\" $value $value $value $value $value $value }}",
     "1234.50 1.234500e+03 1234.5 1234.500|1234.5  |+1234.5"},
    {"{{ printf \"%d\" $value }}",
     "%!d(float64=1234.5)"},
    {"{{ printf \"%s\" $value }}",
     "%!s(float64=1234.5)"},
    {"{{ printf \"%.2f\" 5 }}",
     "%!f(int=05)"},
    {"{{ printf \"%d %d\" 1 }}",
     "1 %!d(MISSING)"},
    {"{{ printf \"%d\" 1 2 \"x\" }}",
     "1%!(EXTRA int=2, string=x)"},
    {"{{ printf \"%!\" }}",
     "%!!(MISSING)"},
    {"{{ printf \"%\" }}",
     "%!(NOVERB)"},
    {"{{ printf \"%z\" 5 }}",
     "%!z(int=5)"},
    {"{{ printf \"%[2]d %[1]d\" 1 2 }}",
     "2 1"},
    {"{{ printf \"%*d|%.*f\" 5 42 2 3.14159 }}",
     "   42|3.14"},
    {"{{ printf \"%T %T %T %T %T\" 1 1.5 \"s\" true $labels }}",
     "int float64 string bool map[string]string"},
    {"{{ printf \"%v\" $labels }} {{ printf \"%s\" $labels }} {{ printf \"%d\" $labels }}",
     "map[__name__:up a:va instance:h.example.com:9100] map[__name__:up a:va instance:h.example.com:9100] map[%!d(string=__name__):%!d(string=up) %!d(string=a):%!d(string=va) %!d(string=instance):%!d(string=h.example.com:9100)]"},
    {"{{ printf \"%v\" (query \"m\" | first) }}",
     "&{map[__name__:m i:b k:x] 20}"},
    {"{{ query \"m\" | first }}",
     "{map[__name__:m i:b k:x] 20}"},
    {"{{ printf \"%v\" nil }}",
     "<nil>"},
    {"{{ printf \"%U %c %q %b %o %X %#x %#o\" 65 65 65 5 8 255 255 8 }}",
     "U+0041 A 'A' 101 10 FF 0xff 010"},
    {"{{ printf \"%x %X % x\" \"hello\" \"hello\" \"hello\" }}",
     "68656c6c6f 68656C6C6F 68 65 6c 6c 6f"},
    {"{{ printf \"%6.2f%%\" 99.5 }}",
     " 99.50%"},
    {"{{ printf \"%5s|%-5s|%.2s\" \"ab\" \"ab\" \"abcdef\" }}",
     "   ab|ab   |ab"},
    {"{{ printf \"%q\" \"a\\\"b\\tc\" }}",
     "\"a\\\"b\\tc\""},
    {"{{ printf \"%v %v %v\" 1e6 1e21 0.00001 }}",
     "1e+06 1e+21 1e-05"},
    {"{{ printf \"%g %g\" 100000.0 1000000.0 }}",
     "100000 1e+06"},
    {"{{ 1e3 }} {{ 1.0 }} {{ 0x10 }} {{ 1_000 }} {{ 'a' }} {{ -5 }} {{ +5 }} {{ 010 }} {{ 0b11 }}",
     "1000 1 16 1000 97 -5 5 8 3"},
    {"{{ true }} {{ \"str\" }} {{ `raw` }} {{ \"esc\\ttab\\u00e9\" }}",
     "true str raw esc\ttabé"},
    {"{{ nil }}",
     "!1:115: executing \"__alert_A\" at <nil>: nil is not a command"},
    {"{{ 5 6 }}",
     "!1:115: executing \"__alert_A\" at <5>: can't give argument to non-function 5"},
    {"{{ $labels.a 5 }}",
     "!1:122: executing \"__alert_A\" at <$labels.a>: a is not a method but has arguments"},
    {"{{ \"x\" | $labels.a }}",
     "!1:128: executing \"__alert_A\" at <$labels.a>: a is not a method but has arguments"},
    {"{{ .Value 5 }}",
     "!1:115: executing \"__alert_A\" at <.Value>: Value has arguments but cannot be invoked as function"},
    {"{{ humanize 0.0 }} {{ humanize 1.0 }} {{ humanize 1234567.0 }} {{ humanize 0.0000123 }} {{ humanize \"12345\" }} {{ humanize 1e30 }} {{ humanize -0.5 }}",
     "0 1 1.235M 12.3u 12.35k 1e+06Y -500m"},
    {"{{ humanize \"abc\" }}",
     "!1:115: executing \"__alert_A\" at <humanize \"abc\">: error calling humanize: strconv.ParseFloat: parsing \"abc\": invalid syntax"},
    {"{{ humanize $labels }}",
     "!1:115: executing \"__alert_A\" at <humanize $labels>: error calling humanize: can't convert map[string]string to float"},
    {"{{ humanize1024 0.0 }} {{ humanize1024 1048576.0 }} {{ humanize1024 1500.0 }} {{ humanize1024 0.5 }}",
     "0 1Mi 1.465ki 0.5"},
    {"{{ humanizeDuration 0.0 }} {{ humanizeDuration 60.0 }} {{ humanizeDuration 3600.0 }} {{ humanizeDuration 86400.0 }} {{ humanizeDuration 86400.5 }} {{ humanizeDuration 899.99 }} {{ humanizeDuration -1.0 }} {{ humanizeDuration -90061.0 }} {{ humanizeDuration 0.1 }} {{ humanizeDuration 0.0001 }} {{ humanizeDuration 12.3456789 }} {{ humanizeDuration \"5\" }}",
     "0s 1m 0s 1h 0m 0s 1d 0h 0m 0s 1d 0h 0m 0s 14m 59s -1s -1d 1h 1m 1s 100ms 100us 12.35s 5s"},
    {"{{ humanizePercentage 0.1234567 }} {{ humanizePercentage 2.0 }} {{ humanizePercentage -0.1 }}",
     "12.35% 200% -10%"},
    {"{{ humanizeTimestamp 1435065584.128 }} {{ humanizeTimestamp \"1435065584\" }} {{ humanizeTimestamp 0.0 }}",
     "2015-06-23 13:19:44.128 +0000 UTC 2015-06-23 13:19:44 +0000 UTC 1970-01-01 00:00:00 +0000 UTC"},
    {"{{ humanizeTimestamp 1e30 }}",
     "!1:115: executing \"__alert_A\" at <humanizeTimestamp 1e30>: error calling humanizeTimestamp: 1e+30 cannot be represented as a nanoseconds timestamp since it overflows int64"},
    {"{{ 1435065584.128 | toTime }} {{ (1435065584.128 | toTime).Year }} {{ (toTime 1435065584.128).Month }} {{ (toTime 1435065584.128).Weekday }} {{ (toTime 1435065584.128).Unix }}",
     "2015-06-23 13:19:44.128 +0000 UTC 2015 June Tuesday 1435065584"},
    {"{{ title \"hello world foo-bar\" }} {{ toUpper \"abc\" }} {{ toLower \"ABC\" }}",
     "Hello World Foo-Bar ABC abc"},
    {"{{ title \"o'neil a.b x_y 9lives\" }}",
     "O'neil A.b X_y 9lives"},
    {"{{ match \"a+\" \"baac\" }} {{ match \"^a\" \"ba\" }} {{ reReplaceAll \"(a)(b)\" \"$2$1\" \"abcab\" }} {{ reReplaceAll \"x*\" \"-\" \"abc\" }}",
     "true false bacba -a-b-c-"},
    {"{{ match \"[\" \"a\" }}",
     "!1:115: executing \"__alert_A\" at <match \"[\" \"a\">: error calling match: error parsing regexp: missing closing ]: `[`"},
    {"{{ reReplaceAll \"[\" \"a\" \"b\" }}",
     "!1:115: executing \"__alert_A\" at <reReplaceAll \"[\" \"a\" \"b\">: error calling reReplaceAll: regexp: Compile(`[`): error parsing regexp: missing closing ]: `[`"},
    {"{{ graphLink \"up == 0\" }} {{ tableLink \"a{b=\\\"c d\\\"}\" }}",
     "/graph?g0.expr=up+%3D%3D+0&g0.tab=0 /graph?g0.expr=a%7Bb%3D%22c+d%22%7D&g0.tab=1"},
    {"{{ stripPort \"h:80\" }} {{ stripPort \"[::1]:80\" }} {{ stripPort \"h\" }} {{ stripDomain \"a.b.c:80\" }} {{ stripDomain \"1.2.3.4:80\" }} {{ stripDomain \"a.b\" }} {{ stripPort \"a:b:c\" }} {{ stripDomain \"[::1]:80\" }}",
     "h ::1 h a:80 1.2.3.4:80 a a:b:c [::1]:80"},
    {"{{ parseDuration \"1h30m\" }} {{ parseDuration \"5ms\" }}",
     "5400 0.005"},
    {"{{ parseDuration \"5x\" }}",
     "!1:115: executing \"__alert_A\" at <parseDuration \"5x\">: error calling parseDuration: unknown unit \"x\" in duration \"5x\""},
    {"{{ externalURL }} {{ pathPrefix }}",
     "http://e.x:9090/p /p"},
    {"{{ with query \"m\" }}{{ . | first | label \"k\" }}{{ end }}",
     "x"},
    {"{{ with query \"none\" }}x{{ else }}empty{{ end }}",
     "empty"},
    {"{{ query \"none\" | first | value }}",
     "!1:130: executing \"__alert_A\" at <first>: error calling first: first() called on vector with no elements"},
    {"{{ query \"bad(\" }}",
     "!1:115: executing \"__alert_A\" at <query \"bad(\">: error calling query: 1:1: parse error: unknown function with name \"bad\""},
    {"{{ range query \"m\" }}{{ .Labels.i }}={{ .Value }};{{ end }}",
     "b=20;a=10;"},
    {"{{ range sortByLabel \"i\" (query \"m\") }}{{ .Labels.i }}{{ end }}",
     "ab"},
    {"{{ range query \"m\" | sortByLabel \"k\" }}{{ .Labels.k }}{{ end }}",
     "xy"},
    {"{{ range $i, $s := query \"m\" }}{{ $i }}:{{ $s.Value }} {{ end }}",
     "0:20 1:10 "},
    {"{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}",
     "__name__=up,a=va,instance=h.example.com:9100,"},
    {"{{ range query \"none\" }}x{{ else }}nothing{{ end }}",
     "nothing"},
    {"{{ range query \"m\" }}{{ if eq .Labels.i \"b\" }}{{ continue }}{{ end }}{{ .Labels.i }}{{ break }}{{ end }}",
     "a"},
    {"{{ range $value }}x{{ end }}",
     "!1:121: executing \"__alert_A\" at <$value>: range can't iterate over 1234.5"},
    {"{{ range \"abc\" }}x{{ end }}",
     "!1:121: executing \"__alert_A\" at <\"abc\">: range can't iterate over abc"},
    {"{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }} {{ $y := $x }}{{ $y }}",
     "2 2"},
    {"{{ define \"t\" }}[{{ . }}]{{ end }}{{ template \"t\" $value }} {{ template \"t\" \"x\" }} {{ template \"t\" }}",
     "[1234.5] [x] [<no value>]"},
    {"{{ define \"t\" }}[{{ .Labels.a }}]{{ end }}{{ template \"t\" . }}",
     "[va]"},
    {"{{ block \"b\" 5 }}<{{ . }}>{{ end }}{{ template \"b\" 6 }}",
     "<5><6>"},
    {"{{ template \"none\" }}",
     "!1:124: executing \"__alert_A\" at <{{template \"none\"}}>: template \"none\" not defined"},
    {"{{ define \"r\" }}{{ template \"r\" }}{{ end }}x",
     "x"},
    {"{{ if $labels.nope }}a{{ else if eq 1 1 }}b{{ else }}c{{ end }}",
     "b"},
    {"{{ with $labels.a }}{{ . }}{{ end }}{{ with $labels.nope }}x{{ else }}none{{ end }}",
     "vanone"},
    {"a  {{- \" b \" -}}  c",
     "a b c"},
    {"{{- /* c */ -}} x {{/* d */}} y",
     "x  y"},
    {"{{ html \"<a href='x'>\\\"&\" }} {{ js \"a'b<c>=\" }} {{ urlquery \"a b&c/d\" }}",
     "&lt;a href=&#39;x&#39;&gt;&#34;&amp; a\\'b\\u003Cc\\u003E\\u003D a+b%26c%2Fd"},
    {"{{ html 1 \"a\" 2 }}",
     "1a2"},
    {"{{ safeHtml \"<b>\" }}",
     "<b>"},
    {"{{ args 1 \"x\" $value }}",
     "map[arg0:1 arg1:x arg2:1234.5]"},
    {"{{ $a := args 1 \"x\" }}{{ $a.arg0 }} {{ $a.arg1 }} {{ $a.arg2 }}",
     "1 x <no value>"},
    {"{{ label \"a\" (query \"m\" | first) }}|{{ query \"m\" | first | strvalue }}",
     "|"},
    {"{{ label \"a\" 5 }}",
     "!1:125: executing \"__alert_A\" at <5>: can't handle 5 for arg of type *template.sample"},
    {"{{ first 5 }}",
     "!1:121: executing \"__alert_A\" at <5>: can't handle 5 for arg of type template.queryResult"},
    {"{{ first $labels }}",
     "!1:121: executing \"__alert_A\" at <$labels>: wrong type for value; expected template.queryResult; got map[string]string"},
    {"{{ value nil }}",
     "!1:115: executing \"__alert_A\" at <value nil>: error calling value: runtime error: invalid memory address or nil pointer dereference"},
    {"{{ humanize }}",
     "!1:115: executing \"__alert_A\" at <humanize>: wrong number of args for humanize: want 1 got 0"},
    {"{{ humanize 1.0 2.0 }}",
     "!1:115: executing \"__alert_A\" at <humanize>: wrong number of args for humanize: want 1 got 2"},
    {"{{ printf }}",
     "!1:115: executing \"__alert_A\" at <printf>: wrong number of args for printf: want at least 1 got 0"},
    {"{{ match \"a\" }}",
     "!1:115: executing \"__alert_A\" at <match>: wrong number of args for match: want 2 got 1"},
    {"{{ match 5 \"a\" }}",
     "!1:121: executing \"__alert_A\" at <5>: expected string; found 5"},
    {"{{ match $value \"a\" }}",
     "!1:121: executing \"__alert_A\" at <$value>: wrong type for value; expected string; got float64"},
    {"{{ toUpper $value }}",
     "!1:123: executing \"__alert_A\" at <$value>: wrong type for value; expected string; got float64"},
    {"{{ toUpper nil }}",
     "!1:123: executing \"__alert_A\" at <nil>: cannot assign nil to string"},
    {"{{ toUpper $labels.nope.x }}",
     "!1:130: executing \"__alert_A\" at <$labels.nope.x>: can't evaluate field x in type string"},
    {"{{ call $value }}",
     "!1:115: executing \"__alert_A\" at <call $value>: error calling call: non-function of type float64"},
    {"{{ (index (query \"m\") 0).Labels.k }} {{ (query \"m\" | first).Value }}",
     "x 20"},
    {"{{ ($labels).a }}",
     "va"},
    {"{{ $labels.a | printf \"%s-%s\" \"x\" }}",
     "x-va"},
    {"{{ \"x\" | printf \"%s\" | toUpper }}",
     "X"},
    {"{{ $value | printf \"%.1f\" | toUpper }}",
     "1234.5"},
    {"{{ .Labels.a.b.c }}",
     "!1:122: executing \"__alert_A\" at <.Labels.a.b.c>: can't evaluate field b in type string"},
    {"{{ printf \"%s\" (printf \"%d\" (len $labels)) }}",
     "3"},
    {"{{ if and (gt $value 1.0) (eq $labels.a \"va\") }}both{{ end }}",
     "both"},
    {"line1\n{{ $labels.a.b }}",
     "!2:10: executing \"__alert_A\" at <$labels.a.b>: can't evaluate field b in type string"},
    {"line1\nline2 {{ humanize \"x\" }}",
     "!2:9: executing \"__alert_A\" at <humanize \"x\">: error calling humanize: strconv.ParseFloat: parsing \"x\": invalid syntax"},
    {"{{ $labels.instance | reReplaceAll \":.*\" \"\" }}",
     "h.example.com"},
    {"{{ if ne $labels.a \"\" }}{{ $labels.a }}{{ end -}}   ",
     "va"},
    {"{{ print nil }} {{ len nil }}",
     "!1:131: executing \"__alert_A\" at <len nil>: error calling len: reflect: call of reflect.Value.Type on zero Value"},
    {"{{ index nil 1 }}",
     "!1:115: executing \"__alert_A\" at <index nil 1>: error calling index: index of untyped nil"},
    {"{{ eq nil nil }} {{ eq $labels.a nil }}",
     "true false"},
    {"{{ not nil }} {{ not 0 }} {{ not \"\" }}",
     "true true true"},
    {"{{ printf \"%v %v\" true false }} {{ printf \"%5t|\" true }}",
     "true false  true|"},
    {"{{ printf \"%08.3f|%+d|% d\" 3.14159 5 5 }}",
     "0003.142|+5| 5"},
    {"{{ printf \"%s %s\" \"a\" }}",
     "a %!s(MISSING)"},
    {"{{ printf \"%-10s|%10s|\" \"é\" \"é\" }}",
     "é         |         é|"},
    {"{{ printf \"%e\" 0.0 }} {{ printf \"%G\" 1e-10 }}",
     "0.000000e+00 1E-10"},
    {"{{ printf \"%3c|%-3c|\" 65 65 }}",
     "  A|A  |"},
    {"{{ printf \"%v\" (query \"none\") }}",
     "[]"},
    {"{{ range $i, $e := $labels }}{{ if $i }},{{ end }}{{ $e }}{{ end }}",
     ",up,va,h.example.com:9100"},
    {"{{ $value | humanizePercentage }} {{ $value | humanizeDuration }} {{ $value | humanize1024 }}",
     "1.234e+05% 20m 34s 1.206ki"},
    {"{{ with $x := 5 }}{{ $x }}{{ . }}{{ end }}",
     "55"},
    {"{{ printf \"%v\" 1000000 }} {{ 123456789.0 }} {{ 0.1 }} {{ 1e100 }}",
     "1000000 1.23456789e+08 0.1 1e+100"},
    {"{{ printf \"%6.3v|\" 3.14159 }}",
     "  3.14|"},
    {"{{ printf \"%.3s|%.10s|\" \"abcdef\" \"abc\" }}",
     "abc|abc|"},
    // clang-format on
};

static void every_template_gives_what_prometheus_gives(void **state)
{
    static const char before[] = "error executing template __alert_A: template: __alert_A:";

    (void)state;
    for (size_t i = 0; i < NX_COUNT(good); i++) {
        struct buf b;
        nx_status st;

        buf_init(&b, 0);
        err.text[0] = 0;
        st = expand(good[i].text, &b);
        if (good[i].result[0] == '!') {
            assert_int_equal(st, NX_EXEC);
            assert_memory_equal(err.text, before, sizeof before - 1);
            assert_string_equal(err.text + sizeof before - 1, good[i].result + 1);
        } else {
            if (st)
                fail_msg("%s: %s", good[i].text, err.text);
            assert_string_equal(buf_cstr(&b), good[i].result);
        }
        buf_done(&b);
    }
}

static const struct {
    const char *text, *complaint;
} bad[] = {
    // clang-format off
    {"{{ foo }}",
     "1: function \"foo\" not defined"},
    {"{{ .x",
     "1: unclosed action"},
    {"{{ if }}",
     "1: missing value for if"},
    {"{{ if true }}",
     "1: unexpected EOF"},
    {"{{ end }}",
     "1: unexpected {{end}}"},
    {"{{ else }}",
     "1: unexpected {{else}}"},
    {"{{ range }}{{ end }}",
     "1: missing value for range"},
    {"{{ $x }}",
     "1: undefined variable \"$x\""},
    {"{{ $x := }}",
     "1: missing value for command"},
    {"{{ \"abc }}",
     "1: unterminated quoted string"},
    {"{{ `abc }}",
     "1: unterminated raw quoted string"},
    {"{{ 'a }}",
     "1: unterminated character constant"},
    {"{{ ( }}",
     "1: unclosed left paren"},
    {"{{ ) }}",
     "1: unexpected right paren"},
    {"{{ (1 }}",
     "1: unclosed left paren"},
    {"{{ 1) }}",
     "1: unexpected right paren"},
    {"{{ }}",
     "1: missing value for command"},
    {"{{}}",
     "1: missing value for command"},
    {"{{ | }}",
     "1: unexpected \"|\" in command"},
    {"{{ | 1 }}",
     "1: unexpected \"|\" in command"},
    {"{{ @ }}",
     "1: unexpected \"@\" in command"},
    {"{{ a@b }}",
     "1: bad character U+0040 '@'"},
    {"{{ .a@ }}",
     "1: bad character U+0040 '@'"},
    {"{{ $labels.a# }}",
     "1: bad character U+0023 '#'"},
    {"{{ 1x }}",
     "1: bad number syntax: \"1x\""},
    {"{{ 08 }}",
     "1: integer overflow: \"08\""},
    {"{{ 99999999999999999999 }}",
     "1: integer overflow: \"99999999999999999999\""},
    {"{{ 1.2.3 }}",
     "1: unexpected \".3\" in operand"},
    {"{{ /* x }}",
     "1: unexpected \"/\" in command"},
    {"{{ /* x */ y }}",
     "1: unexpected \"/\" in command"},
    {"{{/* x */ y }}",
     "1: comment ends before closing delimiter"},
    {"{{ template }}",
     "1: unexpected \"}}\" in template clause"},
    {"{{ template foo }}",
     "1: unexpected \"foo\" in template clause"},
    {"{{ template \"x\" }",
     "1: unexpected \"}\" in template clause"},
    {"{{ define }}",
     "1: unexpected \"}}\" in define clause"},
    {"{{ define \"x\" }}",
     "1: unexpected EOF"},
    {"{{ define \"x\" }}{{ else }}{{ end }}",
     "1: unexpected {{else}} in define clause"},
    {"{{ break }}",
     "1: {{break}} outside {{range}}"},
    {"{{ continue }}",
     "1: {{continue}} outside {{range}}"},
    {"{{ range query \"m\" }}{{ break 1 }}{{ end }}",
     "1: unexpected \"1\" in {{break}}"},
    {"{{ if true }}{{ else }}{{ else }}{{ end }}",
     "1: expected end; found {{else}}"},
    {"{{ if true }}{{ else if }}{{ end }}",
     "1: missing value for if"},
    {"{{ $x, $y := 1 }}",
     "1: too many declarations in command"},
    {"{{ range $a, $b, $c := query \"m\" }}{{ end }}",
     "1: too many declarations in range"},
    {"{{ range $a, 1 := query \"m\" }}{{ end }}",
     "1: range can only initialize variables"},
    {"{{ true.x }}",
     "1: unexpected . after term \"true\""},
    {"{{ 1.x }}",
     "1: bad number syntax: \"1.x\""},
    {"{{ \"a\".x }}",
     "1: unexpected . after term \"\\\"a\\\"\""},
    {"{{ nil.x }}",
     "1: unexpected . after term \"nil\""},
    {"{{ \"a\" | \"b\" }}",
     "1: non executable command in pipeline stage 2"},
    {"{{ \"a\" | nil }}",
     "1: non executable command in pipeline stage 2"},
    {"{{ a := 1 }}",
     "1: function \"a\" not defined"},
    {"{{ : }}",
     "1: expected :="},
    {"{{ :x }}",
     "1: expected :="},
    {"{{ := 1 }}",
     "1: unexpected \":=\" in command"},
    {"{{ = 1 }}",
     "1: unexpected \"=\" in command"},
    {"{{ , }}",
     "1: unexpected \",\" in command"},
    {"{{ \"\\q\" }}",
     "1: invalid syntax"},
    {"{{ 1+2 }}",
     "1: bad number syntax: \"1+2\""},
    {"{{ 'ab' }}",
     "1: malformed character constant: 'ab'"},
    {"{{ '' }}",
     "1: invalid syntax"},
    {"{{ tmpl \"x\" . }}",
     "1: function \"tmpl\" not defined"},
    {"{{ block \"x\" }}{{ end }}",
     "1: missing value for block clause"},
    {"{{ block \"x\" . }}",
     "1: unexpected EOF"},
    {"{{ with }}{{ end }}",
     "1: missing value for with"},
    {"{{ end 1 }}",
     "1: unexpected \"1\" in end"},
    {"{{ else 1 }}",
     "1: unexpected \"1\" in else"},
    {"{{ define \"x\" }}a{{ end }}{{ define \"x\" }}b{{ end }}",
     "1: template: multiple definition of template \"x\""},
    {"{{ somethingverylong }}",
     "1: function \"somethingverylong\" not defined"},
    {"{{ \"a\" \"b\" . }} {{ somethingverylong",
     "1: function \"somethingverylong\" not defined"},
    {"{{ . . .x }} {{ ..x }}",
     "1: unexpected . after term \".\""},
    {"x\ny {{ if true }}\n{{ foo }}",
     "3: function \"foo\" not defined"},
    {"x\ny {{ if true\n\n",
     "4: unclosed action started at __alert_A:2"},
    {"{{ if \"some long text here\" \"x\" ] }}",
     "1: unexpected \"]\" in operand"},
    {"{{ 5 := 5 }}",
     "1: unexpected \":=\" in operand"},
    {"{{ if end }}",
     "1: unexpected <end> in if"},
    {"{{ range := }}",
     "1: unexpected \":=\" in range"},
    {"{{ é }}",
     "1: function \"é\" not defined"},
    {"{{ \"é\" é }}",
     "1: function \"é\" not defined"},
    {"{{ ( ) }}",
     "1: missing value for parenthesized pipeline"},
    {"{{ ().x }}",
     "1: missing value for parenthesized pipeline"},
    // clang-format on
};

static void what_does_not_parse_is_told_in_gos_words(void **state)
{
    static const char before[] = "template: __alert_A:";

    (void)state;
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        struct buf b;

        buf_init(&b, 0);
        if (expand(bad[i].text, &b) != NX_BADINPUT)
            fail_msg("%s: taken", bad[i].text);
        assert_memory_equal(err.text, before, sizeof before - 1);
        assert_string_equal(err.text + sizeof before - 1, bad[i].complaint);
        buf_done(&b);
    }
}

static void a_verb_may_be_any_byte(void **state)
{
    static const struct template_data data = {.external_url = LITERAL("")};
    struct arena *a = arena_new(0);
    struct template *t = NULL;
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    assert_ok(template_parse(&t, a, LIT("t"),
                             LIT("{{printf \"%\0|%\xff|%\xc3\xa9\" 1.5 2.5 true}}"), &err),
              &err);
    assert_ok(template_execute(t, &data, a, &b, &err), &err);
    assert_true(b.len > 0);
    buf_done(&b);
    arena_free(a);
}

static void work_and_depth_are_bounded(void **state)
{
    static const char *const texts[] = {
        "{{define `r`}}{{template `r`}}{{end}}{{template `r`}}",
        "{{range 100000}}{{range 100000}}{{end}}{{end}}",
        "{{define `r`}}{{range 3}}{{template `r`}}{{end}}{{end}}{{template `r`}}",
    };
    struct buf deep, out;

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        buf_init(&out, 1 << 20);
        assert_int_not_equal(expand(texts[i], &out), NX_OK);
        buf_done(&out);
    }
    buf_init(&deep, 0);
    buf_init(&out, 0);
    buf_str(&deep, "{{");
    for (int i = 0; i < 100000; i++)
        buf_char(&deep, '(');
    assert_int_equal(expand(buf_cstr(&deep), &out), NX_BADINPUT);
    buf_clear(&deep);
    for (int i = 0; i < 100000; i++)
        buf_str(&deep, "{{if 1}}");
    assert_int_equal(expand(buf_cstr(&deep), &out), NX_BADINPUT);
    buf_clear(&deep);
    for (int i = 0; i < 190; i++)
        buf_str(&deep, i ? " (print" : "{{print");
    for (int i = 0; i < 189; i++)
        buf_char(&deep, ')');
    buf_str(&deep, "}}");
    assert_ok(expand(buf_cstr(&deep), &out), &err);
    buf_done(&deep);
    buf_done(&out);
}

static void memory_is_bounded(void **state)
{
    static const char *const texts[] = {
        "{{$x := `xxxxxxxx`}}{{range 40}}{{$x = print $x $x}}{{end}}",
        "{{$x := `xxxxxxxx`}}{{range 40}}{{$x = urlquery $x `&` $x}}{{end}}",
        "{{$x := printf `%1000000s` `x`}}{{range 1000}}{{$y := toUpper $x}}{{end}}",
        "{{$a := args}}{{range 1000000}}{{$a = args $a $a $a}}{{end}}",
    };

    (void)state;
    for (size_t i = 0; i < NX_COUNT(texts); i++) {
        struct buf out;
        buf_init(&out, 1 << 20);
        assert_int_equal(expand(texts[i], &out), NX_LIMIT);
        buf_done(&out);
    }
}

static void a_result_may_not_be_longer_than_its_buffer(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    assert_int_equal(expand("{{range 1000}}abc{{end}}", &b), NX_LIMIT);
    buf_done(&b);
}

static void memory_may_fail_anywhere(void **state)
{
    static const char text[] =
        "{{define `t`}}{{.}}{{end}}{{range $i, $e := query `m`}}{{template `t` $e}}{{end}}"
        "{{printf `%s %v` $labels.a (len $labels) | toUpper}}{{humanize $value}}";

    (void)state;
    for (unsigned at = 1;; at++) {
        struct buf b;
        nx_status st;

        buf_init(&b, 0);
        oom_fail_at(at);
        st = expand(text, &b);
        bool met = oom_off();
        buf_done(&b);
        if (!met) {
            assert_int_equal(st, NX_OK);
            return;
        }
        if (st != NX_NOMEM)
            fail_msg("%s", err.text);
    }
}

static void links_are_made_of_expressions(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    template_table_link(&b, LIT("up{a=\"b c\"} == 0"));
    assert_string_equal(buf_cstr(&b), "/graph?g0.expr=up%7Ba%3D%22b+c%22%7D+%3D%3D+0&g0.tab=1");
    buf_done(&b);
    assert_true(template_is_text(LIT("no action { {")));
    assert_false(template_is_text(LIT("{{.}}")));
}

/* ---- libraries ------------------------------------------------------------------------------------------ */

static void expand_with(const struct template_library *l, const char *name, const char *text,
                        const char *want)
{
    static const struct labels none;
    const struct template_field fields[] = {{"N", {.kind = TEMPLATE_NUMBER, .number = 7}},
                                            {"T", {.kind = TEMPLATE_TEXT, .text = LITERAL("t")}}};
    const struct template_value root = {.kind = TEMPLATE_RECORD, .fields = fields, .n_fields = 2};
    const struct template_data data = {.labels = &none, .external_labels = &none, .root = &root};
    struct arena *a = arena_new(0);
    struct template *t = NULL;
    struct buf b;

    buf_init(&b, 0);
    assert_ok(template_parse_with(&t, a, STR(name), STR(text), l, &err), &err);
    if (template_execute(t, &data, a, &b, &err))
        assert_string_equal(err.text, want);
    else
        assert_string_equal(buf_cstr(&b), want);
    buf_done(&b);
    arena_free(a);
}

static void texts_use_what_files_define(void **state)
{
    struct arena *a = arena_new(0);
    struct template_library *l = template_library_new(a);

    (void)state;
    assert_ok(
        template_library_add(l, LIT("one.tmpl"),
                             LIT("a file {{ define \"a\" }}a{{ .N }}{{ end }}\n{{ define \"b\" "
                                 "}}[{{ template \"a\" . }}]{{ end }}\n{{ define \"bad\" }}\n"
                                 "{{ .Nope }}{{ end }}{{ define \"title\" }}of a file{{ end }}"),
                             &err),
        &err);
    expand_with(l, "title", "{{ template \"b\" . }} {{ template \"title\" . }}", "[a7] of a file");
    expand_with(l, "title", "{{ template \"one.tmpl\" . }}", "a file \n\n");
    expand_with(l, "title", "{{ define \"a\" }}own{{ end }}{{ template \"b\" . }}", "[own]");
    expand_with(l, "title", "{{ template \"none\" . }}",
                "error executing template title: template: title:1:12: executing \"title\" at "
                "<{{template \"none\" .}}>: template \"none\" not defined");
    expand_with(l, "title", "x\n{{ template \"bad\" . }}",
                "error executing template title: template: one.tmpl:4:3: executing \"bad\" at "
                "<.Nope>: can't evaluate field Nope in type template.Data");
    assert_ok(template_library_add(l, LIT("two.tmpl"),
                                   LIT("{{ define \"a\" }}later{{ .T }}{{ end }}{{ define \"b\" }} "
                                       "{{ end }}"),
                                   &err),
              &err);
    expand_with(l, "title", "{{ template \"b\" . }}", "[latert]"); /* nothing is no definition */
    assert_status(template_library_add(l, LIT("bad.tmpl"), LIT("\n{{ define \"a\" }}"), &err),
                  NX_BADINPUT);
    assert_string_equal(err.text, "template: bad.tmpl:2: unexpected EOF");
    expand_with(l, "title", "{{ template \"a\" . }}", "latert");
    arena_free(a);
}

static void libraries_without_memory_stay_as_they_are(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct arena *a = arena_new(0);
        struct template_library *l = template_library_new(a);
        nx_status st;
        oom_fail_at(n);
        st = template_library_add(l, LIT("f"), LIT("{{ define \"a\" }}x{{ end }}"), &err);
        bool failed = oom_off();
        arena_free(a);
        if (!failed) {
            assert_ok(st, &err);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_template_gives_what_prometheus_gives),
        cmocka_unit_test(what_does_not_parse_is_told_in_gos_words),
        cmocka_unit_test(a_verb_may_be_any_byte),
        cmocka_unit_test(work_and_depth_are_bounded),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(a_result_may_not_be_longer_than_its_buffer),
        cmocka_unit_test(memory_may_fail_anywhere),
        cmocka_unit_test(links_are_made_of_expressions),
        cmocka_unit_test(texts_use_what_files_define),
        cmocka_unit_test(libraries_without_memory_stay_as_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
