/* test_parse_errors.c - what is refused, and with which words (PQL-002..039).
 *
 * The texts are Prometheus's own. V2: 2.42 says the same; V3: the syntax or the text is of 3.x. */
#include "tests/support/test.h"

#include "promql/promql.h"

enum { V2, V3 };

static const struct pql_features everything = {
    .experimental_functions = true, .binop_fill = true, .extended_range = true};

// clang-format off
static const struct {
    const char *text, *want;
    int since;
} refused[] = {
    { "up{__name__!=\"x\"}", "1:1: parse error: metric name must not be set twice: \"up\" or \"x\"", V2 },
    { "1[5m:]", "1:1: parse error: subquery is only allowed on instant vector, got scalar instead", V2 },
    { "-foo[5m:]", "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"", V2 },
    { "\"a\\\nb\"", "1:1: parse error: unknown escape sequence U+000A", V2 },
    { " ", "1:1: parse error: no expression found in input", V2 },
    { "# only a comment", "1:1: parse error: no expression found in input", V2 },
    { "1 +", "1:4: parse error: unexpected end of input", V2 },
    { "+", "1:2: parse error: unexpected end of input", V2 },
    { "*1", "1:1: parse error: unexpected <op:*>", V2 },
    { "1 *", "1:4: parse error: unexpected end of input", V2 },
    { "1 /", "1:4: parse error: unexpected end of input", V2 },
    { "(1", "1:3: parse error: unclosed left parenthesis", V2 },
    { "1)", "1:3: parse error: unexpected right parenthesis ')'", V2 },
    { "((1)", "1:5: parse error: unclosed left parenthesis", V2 },
    { ")", "1:2: parse error: unexpected right parenthesis ')'", V2 },
    { "(", "1:2: parse error: unclosed left parenthesis", V2 },
    { "[5m]", "1:1: parse error: unexpected \"[\"", V2 },
    { "foo[", "1:5: parse error: unexpected end of input in duration expression", V3 },
    { "foo[5m", "1:7: parse error: unclosed left bracket", V2 },
    { "foo[5m:", "1:8: parse error: unclosed left bracket", V2 },
    { "foo]", "1:4: parse error: unexpected right bracket ']'", V2 },
    { "foo[]", "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[5m]]", "1:8: parse error: unexpected right bracket ']'", V2 },
    { "foo[5m][5m]", "1:8: parse error: ranges only allowed for vector selectors", V2 },
    { "foo[5m][5m:]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead", V2 },
    { "foo[5m:0.0004]", "1:8: parse error: step of a subquery must be a millisecond at least", V3 },
    { "foo[0]", "1:5: parse error: duration must be greater than 0", V3 },
    { "foo[0s]", "1:5: parse error: duration must be greater than 0", V2 },
    { "foo[-5m]", "1:5: parse error: duration must be greater than 0", V3 },
    { "foo[-1:1m]", "1:5: parse error: duration must be greater than 0", V3 },
    { "foo[5m:0]", "1:8: parse error: duration must be greater than 0", V3 },
    { "foo[5m:-1m]", "1:8: parse error: duration must be greater than 0", V3 },
    { "foo[\"5m\"]", "1:5: parse error: unexpected character in duration expression: '\"'", V3 },
    { "foo[bar]", "1:5: parse error: unexpected character in duration expression: 'b'", V3 },
    { "foo[5m bar]", "1:8: parse error: unexpected character: 'b', expected ':'", V3 },
    { "foo[5m 1m]", "1:8: parse error: unexpected duration \"1m\" in subquery or range, expected \":\" or \"]\"", V2 },
    { "foo[5m,]", "1:7: parse error: unexpected \",\" in subquery or range, expected \":\" or \"]\"", V2 },
    { "foo[5m:1m:1m]", "1:10: parse error: unexpected colon ':'", V2 },
    { "foo[5m::]", "1:8: parse error: unexpected colon ':'", V2 },
    { "foo[:]", "1:6: parse error: unexpected colon before duration in duration expression", V3 },
    { "foo[:1m]", "1:6: parse error: unexpected colon before duration in duration expression", V3 },
    { "foo[5m +]", "1:9: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[5m + :]", "1:10: parse error: unexpected \":\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[(5m]", "1:8: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[5m)]", "1:8: parse error: unexpected right parenthesis ')'", V2 },
    { "foo[step]", "1:9: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[step(]", "1:10: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[step(1)]", "1:10: parse error: unexpected number \"1\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[stepx()]", "1:5: parse error: unexpected character in duration expression: 's'", V3 },
    { "foo[step() step()]", "1:12: parse error: unexpected \"step\" in subquery or range, expected \":\" or \"]\"", V3 },
    { "foo[min_of(1m)]", "1:14: parse error: unexpected \")\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[min_of(1m,)]", "1:15: parse error: unexpected \")\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[min_of(1m,2m,3m)]", "1:17: parse error: unexpected \",\" in subquery or range selector, expected number, duration, step(), or range()", V3 },
    { "foo[1/0]", "1:6: parse error: division by zero", V3 },
    { "foo[1m%0]", "1:7: parse error: modulo by zero", V3 },
    { "foo[1e20]", "1:5: parse error: duration out of range", V3 },
    { "foo[5m$]", "1:7: parse error: unexpected character: '$'", V2 },
    { "foo[5x]", "1:5: parse error: bad number or duration syntax: \"5\"", V3 },
    { "foo[#]", "1:5: parse error: unexpected character in duration expression: '#'", V3 },
    { "foo[5m #", "1:9: parse error: unclosed left bracket", V2 },
    { "foo[1:2 3]", "1:9: parse error: unexpected number \"3\" in subquery selector, expected \"]\"", V3 },
    { "foo[5m:1m)]", "1:11: parse error: unexpected right parenthesis ')'", V2 },
    { "{}", "1:1: parse error: vector selector must contain at least one non-empty matcher", V2 },
    { "{ }", "1:1: parse error: vector selector must contain at least one non-empty matcher", V2 },
    { "{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher", V2 },
    { "{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher", V2 },
    { "{a!=\"b\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher", V2 },
    { "{a!~\".+\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher", V2 },
    { "{__name__=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher", V2 },
    { "up{__name__=\"x\"}", "1:1: parse error: metric name must not be set twice: \"up\" or \"x\"", V2 },
    { "up{__name__=~\"x\"}", "1:1: parse error: metric name must not be set twice: \"up\" or \"x\"", V2 },
    { "foo{\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"", V3 },
    { "{a}", "1:3: parse error: unexpected \"}\" in label matching, expected label matching operator", V2 },
    { "{a=}", "1:4: parse error: unexpected \"}\" in label matching, expected string", V2 },
    { "{a=1}", "1:4: parse error: unexpected character inside braces: '1'", V2 },
    { "{a=b}", "1:4: parse error: unexpected identifier \"b\" in label matching, expected string", V2 },
    { "{a==\"\"}", "1:4: parse error: unexpected \"=\" in label matching, expected string", V2 },
    { "{a>\"b\"}", "1:3: parse error: unexpected character inside braces: '>'", V2 },
    { "{=}", "1:2: parse error: unexpected \"=\" in label matching, expected identifier or \"}\"", V2 },
    { "{a=\"b\"", "1:7: parse error: unexpected end of input inside braces", V2 },
    { "{a=\"b\" c=\"d\"}", "1:8: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \"}\"", V2 },
    { "{a=\"b\",,}", "1:8: parse error: unexpected \",\" in label matching, expected identifier or \"}\"", V2 },
    { "{,}", "1:2: parse error: unexpected \",\" in label matching, expected identifier or \"}\"", V2 },
    { "{,a=\"b\"}", "1:2: parse error: unexpected \",\" in label matching, expected identifier or \"}\"", V2 },
    { "{a=\"b\";}", "1:7: parse error: unexpected character inside braces: ';'", V2 },
    { "{\"a\"=}", "1:6: parse error: unexpected \"}\" in label matching, expected string", V3 },
    { "{\"a\" \"b\"}", "1:6: parse error: unexpected string \"\\\"b\\\"\" in label matching, expected \",\" or \"}\"", V3 },
    { "{\"a\"=b}", "1:6: parse error: unexpected identifier \"b\" in label matching, expected string", V3 },
    { "{a!\"b\"}", "1:3: parse error: unexpected character after '!' inside braces: '\"'", V2 },
    { "{a:b=\"c\"}", "1:3: parse error: unexpected character inside braces: ':'", V2 },
    { "{1a=\"b\"}", "1:2: parse error: unexpected character inside braces: '1'", V2 },
    { "{{}}", "1:2: parse error: unexpected left brace '{'", V2 },
    { "{a=\"b\"}}", "1:8: parse error: unexpected character: '}'", V2 },
    { "}", "1:1: parse error: unexpected character: '}'", V2 },
    { "{a=\"b}", "1:4: parse error: unterminated quoted string", V2 },
    { "{a=\"b\\q\"}", "1:4: parse error: unknown escape sequence U+0071 'q'", V2 },
    { "foo{a=\"b\"}{c=\"d\"}", "1:11: parse error: unexpected \"{\"", V2 },
    { "foo bar", "1:5: parse error: unexpected identifier \"bar\"", V2 },
    { "foo 5", "1:5: parse error: unexpected number \"5\"", V2 },
    { "foo \"a\"", "1:5: parse error: unexpected string \"\\\"a\\\"\"", V2 },
    { "\"a\" \"b\"", "1:5: parse error: unexpected string \"\\\"b\\\"\"", V2 },
    { "5 foo", "1:3: parse error: unexpected identifier \"foo\"", V2 },
    { "5 5", "1:3: parse error: unexpected number \"5\"", V2 },
    { "foo,bar", "1:4: parse error: unexpected \",\"", V2 },
    { "foo;", "1:4: parse error: unexpected character: ';'", V2 },
    { "foo $", "1:5: parse error: unexpected character: '$'", V2 },
    { "foo & bar", "1:5: parse error: unexpected character: '&'", V2 },
    { "foo | bar", "1:5: parse error: unexpected character: '|'", V2 },
    { "foo !", "1:5: parse error: unexpected character after '!': '\357\277\275'", V2 },
    { "foo ! bar", "1:5: parse error: unexpected character after '!': ' '", V2 },
    { "foo = bar", "1:5: parse error: unexpected \"=\"", V2 },
    { "foo =~ bar", "1:5: parse error: unexpected character after '=': '~'", V2 },
    { "foo ~ bar", "1:5: parse error: unexpected character: '~'", V2 },
    { "\303\251", "1:1: parse error: unexpected character: '\303\251'", V2 },
    { "foo \\", "1:5: parse error: unexpected character: '\\\\'", V2 },
    { "foo ? 1", "1:5: parse error: unexpected character: '?'", V2 },
    { "1a", "1:1: parse error: bad number or duration syntax: \"1\"", V2 },
    { "0b11", "1:1: parse error: bad number or duration syntax: \"0\"", V2 },
    { "1__0", "1:1: parse error: bad number or duration syntax: \"1__\"", V3 },
    { "1_", "1:1: parse error: bad number or duration syntax: \"1_\"", V3 },
    { "1e", "1:1: parse error: bad number or duration syntax: \"1e\"", V3 },
    { "1e+", "1:1: parse error: bad number or duration syntax: \"1e+\"", V3 },
    { "1.2.3", "1:1: parse error: bad number or duration syntax: \"1.2.\"", V3 },
    { "1..2", "1:1: parse error: bad number or duration syntax: \"1..\"", V3 },
    { "0x", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"0x\": invalid syntax", V2 },
    { "0x1.5", "1:1: parse error: bad number or duration syntax: \"0x1.\"", V3 },
    { "0xg", "1:1: parse error: bad number or duration syntax: \"0x\"", V2 },
    { "1e400", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range", V2 },
    { "0xFFFFFFFFFFFFFFFFFF", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"0xFFFFFFFFFFFFFFFFFF\": invalid syntax", V2 },
    { "1m1m", "1:1: parse error: not a valid duration string: \"1m1m\"", V3 },
    { "30s1m", "1:1: parse error: not a valid duration string: \"30s1m\"", V3 },
    { "1.5m", "1:1: parse error: unknown unit \".\" in duration \"1.5m\"", V3 },
    { "5mm", "1:1: parse error: bad number or duration syntax: \"5mm\"", V2 },
    { "5hs", "1:1: parse error: unknown unit \"hs\" in duration \"5hs\"", V3 },
    { "1y1y", "1:1: parse error: bad number or duration syntax: \"1y1\"", V2 },
    { "999999y", "1:1: parse error: duration out of range", V3 },
    { "\"abc", "1:1: parse error: unterminated quoted string", V2 },
    { "'abc", "1:1: parse error: unterminated quoted string", V2 },
    { "`abc", "1:1: parse error: unterminated raw string", V2 },
    { "\"\\", "1:1: parse error: escape sequence not terminated", V2 },
    { "\"\\q\"", "1:1: parse error: unknown escape sequence U+0071 'q'", V2 },
    { "\"\\x4\"", "1:1: parse error: illegal character U+0022 '\"' in escape sequence", V2 },
    { "\"\\xzz\"", "1:1: parse error: illegal character U+007A 'z' in escape sequence", V2 },
    { "\"\\400\"", "1:1: parse error: escape sequence is an invalid Unicode code point", V2 },
    { "\"\\ud800\"", "1:1: parse error: escape sequence is an invalid Unicode code point", V2 },
    { "\"\\U00110000\"", "1:1: parse error: escape sequence is an invalid Unicode code point", V2 },
    { "'\\\"'", "1:1: parse error: unknown escape sequence U+0022 '\"'", V2 },
    { "foo offset", "1:11: parse error: unexpected end of input in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset bar", "1:12: parse error: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset \"5m\"", "1:12: parse error: unexpected string \"\\\"5m\\\"\" in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset (", "1:13: parse error: unclosed left parenthesis", V3 },
    { "foo offset (bar)", "1:13: parse error: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset (5m", "1:15: parse error: unclosed left parenthesis", V3 },
    { "foo offset 5m 5m", "1:15: parse error: unexpected duration \"5m\"", V2 },
    { "foo offset 1x", "1:12: parse error: bad number or duration syntax: \"1\"", V2 },
    { "foo offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times", V2 },
    { "foo offset step", "1:16: parse error: unexpected end of input in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset step(1)", "1:17: parse error: unexpected number \"1\" in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset -", "1:13: parse error: unexpected end of input in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset - bar", "1:14: parse error: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()", V3 },
    { "foo offset 1e20", "1:12: parse error: duration out of range", V3 },
    { "foo offset (1/0)", "1:14: parse error: division by zero", V3 },
    { "foo offset (5m) + bar", "1:19: parse error: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()", V3 },
    { "1 offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "(foo) offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "sum(foo) offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "rate(foo[5m]) offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "\"a\" offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "(foo + bar) offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "foo offset 5m [5m]", "1:15: parse error: no offset modifiers allowed before range", V2 },
    { "foo @ 5 [5m]", "1:9: parse error: no @ modifiers allowed before range", V2 },
    { "foo @", "1:6: parse error: unexpected end of input in @, expected timestamp", V2 },
    { "foo @ bar", "1:7: parse error: unexpected identifier \"bar\" in @, expected timestamp", V2 },
    { "foo @ start", "1:12: parse error: unexpected end of input in @, expected timestamp", V2 },
    { "foo @ start(", "1:13: parse error: unclosed left parenthesis", V2 },
    { "foo @ start(5)", "1:13: parse error: unexpected number \"5\" in @, expected timestamp", V2 },
    { "foo @ end) ", "1:11: parse error: unexpected right parenthesis ')'", V2 },
    { "foo @ \"5\"", "1:7: parse error: unexpected string \"\\\"5\\\"\" in @, expected timestamp", V2 },
    { "foo @ - -5", "1:9: parse error: unexpected <op:-> in @, expected timestamp", V2 },
    { "foo @ Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf", V2 },
    { "foo @ -Inf", "1:1: parse error: timestamp out of bounds for @ modifier: -Inf", V2 },
    { "foo @ NaN", "1:1: parse error: timestamp out of bounds for @ modifier: NaN", V2 },
    { "foo @ 1e19", "1:1: parse error: timestamp out of bounds for @ modifier: 10000000000000000000.000000", V2 },
    { "foo @ 5 @ 5", "1:1: parse error: @ <timestamp> may not be set multiple times", V2 },
    { "foo @ 5 @ start()", "1:1: parse error: @ <timestamp> may not be set multiple times", V2 },
    { "foo @ start() @ 5", "1:1: parse error: @ <timestamp> may not be set multiple times", V2 },
    { "1 @ 5", "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "(foo) @ 5", "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "sum(foo) @ 5", "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "abs(foo) @ start()", "1:1: parse error: @ modifier must be preceded by an instant vector selector or range vector selector or a subquery", V2 },
    { "foo{ @ 5", "1:6: parse error: unexpected character inside braces: '@'", V2 },
    { "foo anchored smoothed", "1:1: parse error: anchored and smoothed modifiers cannot be used together", V3 },
    { "foo smoothed anchored", "1:1: parse error: anchored and smoothed modifiers cannot be used together", V3 },
    { "foo[5m:] anchored", "1:1: parse error: anchored modifier is not supported for subqueries", V3 },
    { "foo[5m:1m] smoothed", "1:1: parse error: smoothed modifier is not supported for subqueries", V3 },
    { "1 anchored", "1:1: parse error: anchored modifier not implemented", V3 },
    { "(foo) smoothed", "1:1: parse error: smoothed modifier not implemented", V3 },
    { "1 == 2", "1:3: parse error: comparisons between scalars must use BOOL modifier", V2 },
    { "1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier", V2 },
    { "1 + 2 == 3", "1:7: parse error: comparisons between scalars must use BOOL modifier", V2 },
    { "(1) < (2)", "1:5: parse error: comparisons between scalars must use BOOL modifier", V2 },
    { "1 == bool 2 == 3", "1:13: parse error: comparisons between scalars must use BOOL modifier", V2 },
    { "foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators", V2 },
    { "foo and bool bar", "1:5: parse error: bool modifier can only be used on comparison operators", V2 },
    { "foo bool bar", "1:5: parse error: unexpected <bool>", V2 },
    { "bool", "1:1: parse error: unexpected <bool>", V2 },
    { "on", "1:1: parse error: unexpected <on>", V2 },
    { "ignoring(x)", "1:1: parse error: unexpected <ignoring>", V2 },
    { "group_left", "1:1: parse error: unexpected <group_left>", V2 },
    { "atan2", "1:1: parse error: unexpected <op:atan2>", V2 },
    { "1 and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression", V2 },
    { "foo and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression", V2 },
    { "1 or foo", "1:1: parse error: set operator \"or\" not allowed in binary scalar expression", V2 },
    { "foo unless 2", "1:1: parse error: set operator \"unless\" not allowed in binary scalar expression", V2 },
    { "\"a\" + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types", V2 },
    { "1 + \"a\"", "1:5: parse error: binary expression must contain only scalar and instant vector types", V2 },
    { "foo + \"a\"", "1:7: parse error: binary expression must contain only scalar and instant vector types", V2 },
    { "foo[5m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types", V2 },
    { "1 + foo[5m]", "1:5: parse error: binary expression must contain only scalar and instant vector types", V2 },
    { "foo[5m] and bar", "1:1: parse error: binary expression must contain only scalar and instant vector types", V2 },
    { "1 + on(a) foo", "1:1: parse error: vector matching only allowed between instant vectors", V2 },
    { "foo + on(a) 1", "1:1: parse error: vector matching only allowed between instant vectors", V2 },
    { "1 + on(a) 1", "1:1: parse error: vector matching only allowed between instant vectors", V2 },
    { "foo + ignoring(a) 1", "1:1: parse error: vector matching only allowed between instant vectors", V2 },
    { "foo and on(a) group_left(b) bar", "1:1: parse error: no grouping allowed for \"and\" operation", V2 },
    { "foo or ignoring(a) group_right bar", "1:1: parse error: no grouping allowed for \"or\" operation", V2 },
    { "foo + on(a) group_left(a) bar", "1:5: parse error: label \"a\" must not occur in ON and GROUP clause at once", V2 },
    { "foo + on(a, b) group_right(c, b) bar", "1:5: parse error: label \"b\" must not occur in ON and GROUP clause at once", V2 },
    { "foo + on", "1:9: parse error: unexpected end of input in grouping opts, expected \"(\"", V2 },
    { "foo + on bar", "1:10: parse error: unexpected identifier \"bar\" in grouping opts, expected \"(\"", V2 },
    { "foo + on( bar", "1:14: parse error: unclosed left parenthesis", V2 },
    { "foo + on() ", "1:12: parse error: unexpected end of input", V2 },
    { "foo + on(a b) bar", "1:12: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"", V2 },
    { "foo + on(1) bar", "1:10: parse error: unexpected number \"1\" in grouping opts, expected label", V2 },
    { "foo + on(,) bar", "1:10: parse error: unexpected \",\" in grouping opts, expected label", V2 },
    { "foo + on(a,,b) bar", "1:12: parse error: unexpected \",\" in grouping opts, expected label", V2 },
    { "foo + on(\"\") bar", "1:10: parse error: invalid label name for grouping: \"\"", V3 },
    { "foo + on(a) on(b) bar", "1:13: parse error: unexpected <on>", V2 },
    { "foo + on(a) bool bar", "1:13: parse error: unexpected <bool>", V2 },
    { "foo + group_left bar", "1:7: parse error: unexpected <group_left>", V2 },
    { "foo + group_left(a) bar", "1:7: parse error: unexpected <group_left>", V2 },
    { "foo + on(a) group_left", "1:23: parse error: unexpected end of input in grouping opts, expected \"(\"", V2 },
    { "foo + on(a) group_left = bar", "1:24: parse error: unexpected \"=\" in grouping opts, expected \"(\"", V2 },
    { "foo + on(a) group_left (b)", "1:27: parse error: unexpected end of input", V2 },
    { "foo + on(a) group_left (b) group_right (c) bar", "1:28: parse error: unexpected <group_right>", V2 },
    { "foo + fill(a) bar", "1:12: parse error: unexpected identifier \"a\"", V3 },
    { "foo + fill() bar", "1:12: parse error: unexpected \")\"", V3 },
    { "foo + fill(1 bar", "1:14: parse error: unexpected identifier \"bar\"", V2 },
    { "foo + fill(\"1\") bar", "1:12: parse error: unexpected string \"\\\"1\\\"\"", V3 },
    { "foo + fill(1) fill(2) bar", "1:19: parse error: unexpected \"(\"", V3 },
    { "foo + fill_left(1) fill_left(2) bar", "1:29: parse error: unexpected \"(\"", V3 },
    { "foo + fill(- -1) bar", "1:14: parse error: unexpected <op:->", V3 },
    { "foo + fill(1) 2", "1:1: parse error: filling in missing series only allowed between instant vectors", V3 },
    { "foo and fill(1) bar", "1:1: parse error: filling in missing series not allowed for set operators", V3 },
    { "1 + fill(1) 2", "1:1: parse error: filling in missing series only allowed between instant vectors", V3 },
    { "-\"a\"", "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"", V2 },
    { "+\"a\"", "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"", V2 },
    { "-foo[5m]", "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"", V2 },
    { "-(foo[5m])", "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"", V2 },
    { "- ", "1:3: parse error: unexpected end of input", V2 },
    { "--", "1:3: parse error: unexpected end of input", V2 },
    { "-*1", "1:2: parse error: unexpected <op:*>", V2 },
    { "a:b(1)", "1:4: parse error: unexpected \"(\"", V2 },
    { "by(1)", "1:3: parse error: unexpected \"(\"", V2 },
    { "offset(1)", "1:7: parse error: unexpected \"(\"", V2 },
    { "and(1)", "1:4: parse error: unexpected \"(\"", V2 },
    { "fill(1)", "1:5: parse error: unexpected \"(\"", V3 },
    { "foo()", "1:1: parse error: unknown function with name \"foo\"", V2 },
    { "foo(1)", "1:1: parse error: unknown function with name \"foo\"", V2 },
    { "foo(bar(1), 2 3)", "1:5: parse error: unknown function with name \"bar\"", V2 },
    { "Abs(foo)", "1:1: parse error: unknown function with name \"Abs\"", V2 },
    { "STEP()", "1:1: parse error: unknown function with name \"STEP\"", V2 },
    { " abs(", "1:6: parse error: unclosed left parenthesis", V2 },
    { "abs(foo", "1:8: parse error: unclosed left parenthesis", V2 },
    { "abs()", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0", V2 },
    { "abs(foo, bar)", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 2", V2 },
    { "abs(1)", "1:5: parse error: expected type instant vector in call to function \"abs\", got scalar", V2 },
    { "abs(\"a\")", "1:5: parse error: expected type instant vector in call to function \"abs\", got string", V2 },
    { "abs(foo[5m])", "1:5: parse error: expected type instant vector in call to function \"abs\", got range vector", V2 },
    { "abs(foo,)", "1:8: parse error: trailing commas not allowed in function call args", V2 },
    { "abs(,foo)", "1:5: parse error: unexpected \",\"", V2 },
    { "abs(foo bar)", "1:9: parse error: unexpected identifier \"bar\"", V2 },
    { "abs(foo,,bar)", "1:8: parse error: trailing commas not allowed in function call args", V2 },
    { "abs foo", "1:5: parse error: unexpected identifier \"foo\"", V2 },
    { "rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector", V2 },
    { "rate(1)", "1:6: parse error: expected type range vector in call to function \"rate\", got scalar", V2 },
    { "rate(foo[5m], 2)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2", V2 },
    { "rate((foo))", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector", V2 },
    { "time(1)", "1:1: parse error: expected 0 argument(s) in call to \"time\", got 1", V2 },
    { "vector(foo)", "1:8: parse error: expected type scalar in call to function \"vector\", got instant vector", V2 },
    { "scalar(1)", "1:8: parse error: expected type instant vector in call to function \"scalar\", got scalar", V2 },
    { "round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0", V2 },
    { "round(foo, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3", V2 },
    { "round(foo, bar)", "1:12: parse error: expected type scalar in call to function \"round\", got instant vector", V2 },
    { "hour(1)", "1:6: parse error: expected type instant vector in call to function \"hour\", got scalar", V2 },
    { "hour(foo, bar)", "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2", V2 },
    { "label_replace(foo, \"a\", \"b\")", "1:1: parse error: expected 5 argument(s) in call to \"label_replace\", got 3", V2 },
    { "label_replace(foo, a, \"b\", \"c\", \"d\")", "1:20: parse error: expected type string in call to function \"label_replace\", got instant vector", V2 },
    { "label_join(foo)", "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 1", V2 },
    { "label_join(foo, \"a\")", "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 2", V2 },
    { "label_join(foo, \"a\", 1)", "1:22: parse error: expected type string in call to function \"label_join\", got scalar", V2 },
    { "label_join(foo, \"a\", \"b\", c)", "1:27: parse error: expected type string in call to function \"label_join\", got instant vector", V2 },
    { "sort_by_label(foo, 1)", "1:20: parse error: expected type string in call to function \"sort_by_label\", got scalar", V3 },
    { "sort_by_label()", "1:1: parse error: expected at least 1 argument(s) in call to \"sort_by_label\", got 0", V3 },
    { "histogram_quantile(foo, bar)", "1:20: parse error: expected type scalar in call to function \"histogram_quantile\", got instant vector", V2 },
    { "histogram_quantile(0.9)", "1:1: parse error: expected 2 argument(s) in call to \"histogram_quantile\", got 1", V2 },
    { "quantile_over_time(foo[5m], 0.5)", "1:20: parse error: expected type scalar in call to function \"quantile_over_time\", got range vector", V2 },
    { "clamp(foo, 1)", "1:1: parse error: expected 3 argument(s) in call to \"clamp\", got 2", V2 },
    { "clamp(1, 1, 1)", "1:7: parse error: expected type instant vector in call to function \"clamp\", got scalar", V2 },
    { "start(1)", "1:1: parse error: expected 0 argument(s) in call to \"start\", got 1", V3 },
    { "min_of(1)", "1:1: parse error: expected 2 argument(s) in call to \"min_of\", got 1", V3 },
    { "min_of(foo, 1)", "1:8: parse error: expected type scalar in call to function \"min_of\", got instant vector", V3 },
    { "info()", "1:1: parse error: expected at least 1 argument(s) in call to \"info\", got 0", V3 },
    { "info(foo, 1)", "1:1: parse error: expected type instant vector in call to function \"info\", got scalar", V3 },
    { "info(foo, bar)", "1:11: parse error: expected label selectors only, got vector selector instead", V3 },
    { "info(foo, bar{a=\"b\"})", "1:11: parse error: expected label selectors only, got vector selector instead", V3 },
    { "info(foo, abs(bar))", "1:11: parse error: expected label selectors only", V3 },
    { "info(foo, {a=\"b\"}, 1)", "1:1: parse error: expected at most 2 argument(s) in call to \"info\", got 3", V3 },
    { "info(1)", "1:6: parse error: expected type instant vector in call to function \"info\", got scalar", V3 },
    { "sum(", "1:5: parse error: unclosed left parenthesis", V2 },
    { "sum()", "1:1: parse error: no arguments for aggregate expression provided", V2 },
    { "sum foo", "1:5: parse error: unexpected identifier \"foo\"", V2 },
    { "sum(foo", "1:8: parse error: unclosed left parenthesis", V2 },
    { "sum(foo, bar)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2", V2 },
    { "sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar", V2 },
    { "sum(\"a\")", "1:5: parse error: expected type instant vector in aggregation expression, got string", V2 },
    { "sum(foo[5m])", "1:5: parse error: expected type instant vector in aggregation expression, got range vector", V2 },
    { "sum(foo bar)", "1:9: parse error: unexpected identifier \"bar\" in aggregation", V2 },
    { "sum(foo,)", "1:8: parse error: trailing commas not allowed in function call args", V2 },
    { "sum(,)", "1:5: parse error: unexpected \",\" in aggregation", V2 },
    { "sum(foo) by", "1:12: parse error: unexpected end of input in grouping opts, expected \"(\"", V2 },
    { "sum(foo) by a", "1:13: parse error: unexpected identifier \"a\" in grouping opts, expected \"(\"", V2 },
    { "sum(foo) by (a", "1:15: parse error: unclosed left parenthesis", V2 },
    { "sum(foo) by (a b)", "1:16: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"", V2 },
    { "sum(foo) by (1)", "1:14: parse error: unexpected number \"1\" in grouping opts, expected label", V2 },
    { "sum(foo) by (a,,)", "1:16: parse error: unexpected \",\" in grouping opts, expected label", V2 },
    { "sum(foo) by (,)", "1:14: parse error: unexpected \",\" in grouping opts, expected label", V2 },
    { "sum(foo) by (\"\")", "1:14: parse error: invalid label name for grouping: \"\"", V3 },
    { "sum(foo) by (without)", "1:14: parse error: unexpected <without> in grouping opts, expected label", V2 },
    { "sum(foo) by (a) by (b)", "1:17: parse error: unexpected <by>", V2 },
    { "sum(foo) by (a) bar", "1:17: parse error: unexpected identifier \"bar\"", V2 },
    { "sum by", "1:7: parse error: unexpected end of input in grouping opts, expected \"(\"", V2 },
    { "sum by foo", "1:8: parse error: unexpected identifier \"foo\" in grouping opts, expected \"(\"", V2 },
    { "sum by (a", "1:10: parse error: unclosed left parenthesis", V2 },
    { "sum by (a) foo", "1:12: parse error: unexpected identifier \"foo\" in aggregation", V2 },
    { "sum by (a)", "1:11: parse error: unexpected end of input in aggregation", V2 },
    { "sum by (a) (foo) by (b)", "1:18: parse error: unexpected <by>", V2 },
    { "sum by (a) ()", "1:1: parse error: no arguments for aggregate expression provided", V2 },
    { "sum without", "1:12: parse error: unexpected end of input in grouping opts, expected \"(\"", V2 },
    { "sum without (a) (", "1:18: parse error: unclosed left parenthesis", V2 },
    { "sum by \"a\" (foo)", "1:8: parse error: unexpected string \"\\\"a\\\"\" in grouping opts, expected \"(\"", V2 },
    { "by (a) sum(foo)", "1:4: parse error: unexpected \"(\"", V2 },
    { "sum(sum(foo bar))", "1:13: parse error: unexpected identifier \"bar\" in aggregation", V2 },
    { "sum(abs(foo) + )", "1:16: parse error: unexpected \")\" in aggregation", V2 },
    { "sum(foo offset)", "1:15: parse error: unexpected \")\" in offset, expected number, duration, step(), or range()", V3 },
    { "sum(foo{)", "1:9: parse error: unexpected character inside braces: ')'", V2 },
    { "sum(foo[5m) ", "1:11: parse error: unexpected \")\" in subquery or range, expected \":\" or \"]\"", V2 },
    { "topk(foo)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1", V2 },
    { "topk(5)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1", V2 },
    { "topk(5, foo, bar)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 3", V2 },
    { "topk(\"a\", foo)", "1:6: parse error: expected type scalar in aggregation parameter, got string", V2 },
    { "topk(foo, bar)", "1:6: parse error: expected type scalar in aggregation parameter, got instant vector", V2 },
    { "topk(5, 5)", "1:9: parse error: expected type instant vector in aggregation expression, got scalar", V2 },
    { "topk(5, foo[5m])", "1:9: parse error: expected type instant vector in aggregation expression, got range vector", V2 },
    { "quantile(foo, 1)", "1:15: parse error: expected type instant vector in aggregation expression, got scalar", V2 },
    { "count_values(foo)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1", V2 },
    { "count_values(5, foo)", "1:14: parse error: expected type string in aggregation parameter, got scalar", V2 },
    { "count_values(\"a\", 5)", "1:19: parse error: expected type instant vector in aggregation expression, got scalar", V2 },
    { "count_values(foo, \"a\")", "1:19: parse error: expected type instant vector in aggregation expression, got string", V2 },
    { "limitk(foo)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1", V3 },
    { "foo[5m:1m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types", V2 },
    { "\"a\"[5m:]", "1:1: parse error: subquery is only allowed on instant vector, got string instead", V2 },
    { "foo[5m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead", V2 },
    { "1[5m]", "1:2: parse error: ranges only allowed for vector selectors", V2 },
    { "(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors", V2 },
    { "rate(foo[5m])[5m]", "1:14: parse error: ranges only allowed for vector selectors", V2 },
    { "sum(foo)[5m]", "1:9: parse error: ranges only allowed for vector selectors", V2 },
    { "a +\\", "1:4: parse error: unexpected character: '\\\\'", V2 },
    { "\"a\nb\"", "1:1: parse error: unterminated quoted string", V2 },
    { "foo\n  bar", "2:3: parse error: unexpected identifier \"bar\"", V2 },
    { "foo +\n  * bar", "2:3: parse error: unexpected <op:*>", V2 },
    { "# c\n\nfoo bar", "3:5: parse error: unexpected identifier \"bar\"", V2 },
    { "foo\r\n  $", "2:3: parse error: unexpected character: '$'", V2 },
    { "", "unknown position: parse error: no expression found in input", V3 },
    { "\"\t\"\n\"x\"", "2:1: parse error: unexpected string \"\\\"x\\\"\"", V2 },
    { "sum(\n\n1)", "3:1: parse error: expected type instant vector in aggregation expression, got scalar", V2 },
    { "foo offset nan", "1:12: parse error: duration out of range", V3 }, /* Prometheus takes it */
    { "foo offset -NaN", "1:12: parse error: duration out of range", V3 },
    { "\n\n1 == 1", "3:3: parse error: comparisons between scalars must use BOOL modifier", V2 },
};

/* Without any feature. NULL: taken. */
static const struct {
    const char *text, *want;
} gated[] = {
    { "limitk(2, foo)", "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions" },
    { "limit_ratio(0.5, foo)", "1:1: parse error: limit_ratio() is experimental and must be enabled with --enable-feature=promql-experimental-functions" },
    { "info(foo)", "1:1: parse error: function \"info\" is not enabled" },
    { "start()", "1:1: parse error: function \"start\" is not enabled" },
    { "step()", "1:1: parse error: function \"step\" is not enabled" },
    { "min_of(1, 2)", "1:1: parse error: function \"min_of\" is not enabled" },
    { "sort_by_label(foo, \"a\")", "1:1: parse error: function \"sort_by_label\" is not enabled" },
    { "mad_over_time(foo[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled" },
    { "a + fill(1) b", "1:1: parse error: binop fill modifiers are experimental and not enabled" },
    { "a + fill_left(1) fill_right(2) b", "1:1: parse error: binop fill modifiers are experimental and not enabled" },
    { "foo anchored", "1:1: parse error: anchored modifier is experimental and not enabled" },
    { "foo[5m] smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled" },
    { "foo[5m:] anchored", "1:1: parse error: anchored modifier is experimental and not enabled" },
    { "1 + fill(1) 2", "1:1: parse error: binop fill modifiers are experimental and not enabled" },
    { "sum(info(foo) bar)", "1:5: parse error: function \"info\" is not enabled" },
    { "limitk()", "1:1: parse error: no arguments for aggregate expression provided" },
    { "foo[step()]", NULL },
    { "foo[5m + 1m]", NULL },
    { "foo offset (5m)", NULL },
    { "limitk(foo)", "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions" },
    { "double_exponential_smoothing(foo[5m], 0.1, 0.1)", "1:1: parse error: function \"double_exponential_smoothing\" is not enabled" },
};

/* match[]: a selector and nothing else. NULL: taken. */
static const struct {
    const char *text, *want;
} selectors[] = {
    { "up", NULL },
    { "up{a=\"b\"}", NULL },
    { "up{__name__=\"x\"}", NULL }, /* type checks are for expressions */
    { "{a=\"b\",}", NULL },
    { "{\"my.metric\"}", NULL },
    { "{__name__=~\"a|b\",c!=\"\"}", NULL },
    { " sum # comment", NULL },
    { "offset{by=\"x\"}", NULL },
    { "{}", "match[] must contain at least one non-empty matcher" },
    { "{a=\"\"}", "match[] must contain at least one non-empty matcher" },
    { "{a=~\".*\"}", "match[] must contain at least one non-empty matcher" },
    { "{a!=\"x\"}", "match[] must contain at least one non-empty matcher" },
    { "", "unknown position: parse error: unexpected end of input" },
    { "1", "1:1: parse error: unexpected number \"1\"" },
    { "bool", "1:1: parse error: unexpected <bool>" },
    { "up offset 5m", "1:4: parse error: unexpected <offset>" },
    { "up[5m]", "1:3: parse error: unexpected \"[\"" },
    { "up + up", "1:4: parse error: unexpected <op:+>" },
    { "sum(up)", "1:4: parse error: unexpected \"(\"" },
    { "(up)", "1:1: parse error: unexpected \"(\"" },
    { "up}", "1:3: parse error: unexpected character: '}'" },
    { "up{a=1}", "1:6: parse error: unexpected character inside braces: '1'" },
    { "up{a}", "1:5: parse error: unexpected \"}\" in label matching, expected label matching operator" },
    { "up{a=\"b\"", "1:9: parse error: unexpected end of input inside braces" },
};
// clang-format on

static void parse_and_compare(const char *text, const struct pql_features *features,
                              const char *want)
{
    struct arena *a = arena_new(0);
    const struct pql_expr *e = NULL;
    struct nx_err err;
    nx_status st = pql_parse(a, STR(text), features, &e, &err);

    if (!want && st)
        fail_msg("%s: %s", text, err.text);
    if (want && !st)
        fail_msg("%s: taken", text);
    if (want) {
        assert_int_equal(st, NX_BADINPUT);
        assert_text(STR(err.text), want, text);
        assert_null(e);
        assert_int_equal(pql_parse(a, STR(text), features, &e, NULL),
                         NX_BADINPUT); /* no text wanted */
    }
    pql_expr_done(e);
    arena_free(a);
}

static void faults_are_worded_as_prometheus_words_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(refused); i++)
        parse_and_compare(refused[i].text, &everything, refused[i].want);
}

static void features_are_gated(void **state)
{
    static const struct pql_features nothing = {0};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(gated); i++) {
        parse_and_compare(gated[i].text, &nothing, gated[i].want);
        parse_and_compare(gated[i].text, NULL, gated[i].want);
    }
}

static void bad_regexes_are_faults(void **state)
{
    static const char *const bad[] = {"*", "a**", "a{3,1}", "[z-a]", "(",
                                      ")", "[",   "(?=a)",  "\\\\8"};

    (void)state;
    for (size_t i = 0; i < NX_COUNT(bad); i++) {
        struct arena *a = arena_new(0);
        const struct pql_expr *e;
        struct nx_err err;
        char text[64];

        snprintf(text, sizeof text, "up{ok=~\"a\", job=~\"%s\"}", bad[i]);
        assert_status(pql_parse(a, STR(text), NULL, &e, &err), NX_BADINPUT);
        assert_ptr_equal(strstr(err.text, "1:13: parse error: error parsing regexp: "), err.text);
        arena_free(a);
    }
}

static void match_takes_selectors_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(selectors); i++) {
        struct arena *a = arena_new(0);
        struct matcher *m = NULL;
        struct nx_err err;
        size_t n = 0;
        nx_status st = pql_parse_selector(a, STR(selectors[i].text), &m, &n, &err);

        if (!st) {
            st = pql_check_match(m, n, &err);
            if (st) {
                pql_matchers_done(m, n);
                m = NULL;
                n = 0;
            }
        }
        if (selectors[i].want) {
            assert_int_equal(st, NX_BADINPUT);
            assert_text(STR(err.text), selectors[i].want, selectors[i].text);
            assert_int_equal(n, 0);
        } else {
            assert_ok(st, &err);
            assert_true(n > 0);
        }
        pql_matchers_done(m, n);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_worded_as_prometheus_words_them),
        cmocka_unit_test(features_are_gated),
        cmocka_unit_test(bad_regexes_are_faults),
        cmocka_unit_test(match_takes_selectors_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
