/* test_lex.c - tokens, one by one: kinds, texts, positions, and the names that messages give them. */
#include "tests/support/test.h"

#include "promql/lex.h"

// clang-format off
/* Tokens as messages name them, "@POS" after each; an error as its text. */
static const struct {
    const char *text, *want;
} cases[] = {
    { "", "end of input@0" },
    { " \t\r\n", "end of input@4" },
    { "# c\nx#d", "identifier \"x\"@4 end of input@7" },
    { "a b:c :d _e", "identifier \"a\"@0 metric identifier \"b:c\"@2 metric identifier \":d\"@6 identifier \"_e\"@9 end of input@11" },
    { "sum SUM sums", "<aggr:sum>@0 <aggr:SUM>@4 identifier \"sums\"@8 end of input@12" },
    { "and Or UNLESS atan2", "<op:and>@0 <op:Or>@4 <op:UNLESS>@7 <op:atan2>@14 end of input@19" },
    { "by without on ignoring", "<by>@0 <without>@3 <on>@11 <ignoring>@14 end of input@22" },
    { "bool group_left group_right", "<bool>@0 <group_left>@5 <group_right>@16 end of input@27" },
    { "offset anchored smoothed", "<offset>@0 <anchored>@7 <smoothed>@16 end of input@24" },
    { "fill fill( fill_left (", "identifier \"fill\"@0 <fill>@5 \"(\"@9 <fill_left>@11 \"(\"@21 unclosed left parenthesis" },
    { "start end step range", "\"start\"@0 \"end\"@6 \"step\"@10 \"range\"@15 end of input@20" },
    { "min_of max_of", "\"min_of\"@0 \"max_of\"@7 end of input@13" },
    { "limitk limit_ratio", "<aggr:limitk>@0 <aggr:limit_ratio>@7 end of input@18" },
    { "+-*/%^", "<op:+>@0 <op:->@1 <op:*>@2 <op:/>@3 <op:%>@4 <op:^>@5 end of input@6" },
    { "== != <= >= < > </ >/ @ = ,", "<op:==>@0 <op:!=>@3 <op:<=>@6 <op:>=>@9 <op:<>@12 <op:>>@14 <op:</>@16 <op:>/>@19 <op:@>@22 \"=\"@24 \",\"@26 end of input@27" },
    { "1 .5 5. 1e3 0x1F 1_0", "number \"1\"@0 number \".5\"@2 number \"5.\"@5 number \"1e3\"@8 number \"0x1F\"@12 number \"1_0\"@17 end of input@20" },
    { "inf NaN Infinity", "number \"inf\"@0 number \"NaN\"@4 identifier \"Infinity\"@8 end of input@16" },
    { "12345678901", "number \"1234567890\"...@0 end of input@11" },
    { "5m 1h30m 10ms 30s1m", "duration \"5m\"@0 duration \"1h30m\"@3 duration \"10ms\"@9 duration \"30s1m\"@14 end of input@19" },
    { "5mx", "bad number or duration syntax: \"5mx\"" },
    { "1.2.3", "bad number or duration syntax: \"1.2.\"" },
    { "\"a\" 'b' `c\n`", "string \"\\\"a\\\"\"@0 string \"'b'\"@4 string \"`c\\n`\"@8 end of input@12" },
    { "\"\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\"", "string \"\\\"\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251\"...@0 end of input@22" },
    { "\"a", "unterminated quoted string" },
    { "`a", "unterminated raw string" },
    { "'\\q'", "unknown escape sequence U+0071 'q'" },
    { "'\\\002'", "unknown escape sequence U+0002" },
    { "'\\x0'", "illegal character U+0027 ''' in escape sequence" },
    { "'\\", "escape sequence not terminated" },
    { "'\\u12", "escape sequence not terminated" },
    { "'\\777'", "escape sequence is an invalid Unicode code point" },
    { "{sum=~\"x\", b!~'y', c!=\"z\"}", "\"{\"@0 identifier \"sum\"@1 <op:=~>@4 string \"\\\"x\\\"\"@6 \",\"@9 identifier \"b\"@11 <op:!~>@12 string \"'y'\"@14 \",\"@17 identifier \"c\"@19 <op:!=>@20 string \"\\\"z\\\"\"@22 \"}\"@25 end of input@26" },
    { "{a:b}", "\"{\"@0 identifier \"a\"@1 unexpected character inside braces: ':'" },
    { "{1}", "\"{\"@0 unexpected character inside braces: '1'" },
    { "{{", "\"{\"@0 unexpected left brace '{'" },
    { "{a", "\"{\"@0 identifier \"a\"@1 unexpected end of input inside braces" },
    { "{a!b}", "\"{\"@0 identifier \"a\"@1 unexpected character after '!' inside braces: 'b'" },
    { "}", "unexpected character: '}'" },
    { "x[5m:1m]", "identifier \"x\"@0 \"[\"@1 duration \"5m\"@2 \":\"@4 duration \"1m\"@5 \"]\"@7 end of input@8" },
    { "[step()*2]", "\"[\"@0 \"step\"@1 \"(\"@5 \")\"@6 <op:*>@7 number \"2\"@8 \"]\"@9 end of input@10" },
    { "[5m:step]", "\"[\"@0 duration \"5m\"@1 \":\"@3 \"step\"@4 \"]\"@8 end of input@9" },
    { "[:5m]", "\"[\"@0 unexpected colon before duration in duration expression" },
    { "[5m:2:3]", "\"[\"@0 duration \"5m\"@1 \":\"@3 number \"2\"@4 unexpected colon ':'" },
    { "[x]", "\"[\"@0 unexpected character in duration expression: 'x'" },
    { "[5m x]", "\"[\"@0 duration \"5m\"@1 unexpected character: 'x', expected ':'" },
    { "[", "\"[\"@0 unexpected end of input in duration expression" },
    { "[5", "\"[\"@0 number \"5\"@1 unclosed left bracket" },
    { "[5[", "\"[\"@0 number \"5\"@1 unexpected left bracket '['" },
    { "]", "unexpected right bracket ']'" },
    { ")", "unexpected right parenthesis ')'" },
    { "(", "\"(\"@0 unclosed left parenthesis" },
    { "=~", "unexpected character after '=': '~'" },
    { "!", "unexpected character after '!': '\357\277\275'" },
    { "$", "unexpected character: '$'" },
    { "\a", "unexpected character: '\\a'" },
    { "\303\251", "unexpected character: '\303\251'" },
    { "\342\200\213", "unexpected character: '\\u200b'" },
    { "\360\240\200\200", "unexpected character: '\360\240\200\200'" },
    { "\377", "unexpected character: '\357\277\275'" },
    { "'", "unterminated quoted string" },
    { "\\", "unexpected character: '\\\\'" },
};
// clang-format on

static void tokens_are_named_as_prometheus_names_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < NX_COUNT(cases); i++) {
        struct lexer l;
        struct nx_err err;
        struct token t;
        struct buf b;

        buf_init(&b, 0);
        lex_init(&l, STR(cases[i].text), &err);
        do {
            t = lex_next(&l);
            if (b.len)
                buf_char(&b, ' ');
            if (t.type == TOK_ERROR) {
                const char *what = strstr(err.text, "parse error: ");

                assert_non_null(what);
                buf_str(&b, what + strlen("parse error: "));
                assert_int_equal(l.failed, NX_BADINPUT);
            } else {
                lex_describe(&b, &t);
                buf_printf(&b, "@%u", t.pos);
            }
        } while (t.type != TOK_ERROR && t.type != TOK_EOF);
        assert_buf(&b, cases[i].want, cases[i].text);
        buf_done(&b);
    }
}

static void the_first_fault_stays(void **state)
{
    struct lexer l;
    struct nx_err err;

    (void)state;
    lex_init(&l, LIT("a\nb c"), &err);
    assert_int_equal(lex_fail(&l, 4, "first %d", 1), NX_BADINPUT);
    assert_int_equal(lex_fail(&l, 0, "second"), NX_BADINPUT);
    assert_string_equal(err.text, "2:3: parse error: first 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_named_as_prometheus_names_them),
        cmocka_unit_test(the_first_fault_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
