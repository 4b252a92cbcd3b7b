/* regex.cc - RE2 behind regex.h.
 *
 * WHY     Prometheus's patterns are Go's, and Go's are RE2's: the same syntax, and time linear in
 *         the text whatever the pattern.
 * SHAPE   What matches is ^(?s:...)$, anchored once more by RE2. Errors come from compiling what
 *         Prometheus compiles: the bare pattern for matchers, the wrapped one for relabelling.
 * RULES   X1  The bare pattern must compile: "a)|(b" would otherwise close the group that anchors
 *             it. (Prometheus's relabelling takes that, and then matches half anchored.)
 *         X2  regex_literals() and regex_prefix() read only what is plain beyond doubt: literal
 *             characters and escaped punctuation. Anything else gives up, which costs speed alone.
 *         X3  Memory is bounded: RE2's own default for small patterns, more for long ones.
 *         X4  Literals between ".*" and ".+" are found by memmem() where the text is ASCII, and alternations
 *             of literals compared; they say what RE2 says. A selector asks for every value of a label. */
#include "src/base/regex.h"

#include <cctype>
#include <cstring>
#include <memory>
#include <new>
#include <re2/re2.h>
#include <string>
#include <vector>

#include "src/base/text.h"

#define FEW_LITERALS 8
#define MAX_GROUPS   64 /* beyond these $n is empty; a relabelling rule has a handful */

/* X4: parts[0] gap parts[1] gap ... ; min[i] characters at least lie between parts i and i + 1. */
struct gaps {
    std::vector<std::string> parts; /* empty: the pattern is of another kind */
    std::vector<size_t> min;
};

struct regex {
    RE2 *re;
    struct gaps gaps;
    int n_groups; /* with the whole match, group 0 */
    std::string prefix;
    std::vector<std::string> literals;
    std::vector<struct nx_slice> literal_slices;
};

namespace
{

/* Go's words for what RE2 found. */
const char *error_words(RE2::ErrorCode code)
{
    switch (code) {
    case RE2::ErrorBadEscape:
        return "invalid escape sequence";
    case RE2::ErrorBadCharClass:
        return "invalid character class";
    case RE2::ErrorBadCharRange:
        return "invalid character class range";
    case RE2::ErrorMissingBracket:
        return "missing closing ]";
    case RE2::ErrorMissingParen:
        return "missing closing )";
    case RE2::ErrorUnexpectedParen:
        return "unexpected )";
    case RE2::ErrorTrailingBackslash:
        return "trailing backslash at end of expression";
    case RE2::ErrorRepeatArgument:
        return "missing argument to repetition operator";
    case RE2::ErrorRepeatSize:
        return "invalid repeat count";
    case RE2::ErrorRepeatOp:
        return "invalid nested repetition operator";
    case RE2::ErrorBadPerlOp:
        return "invalid or unsupported Perl syntax";
    case RE2::ErrorBadUTF8:
        return "invalid UTF-8";
    case RE2::ErrorBadNamedCapture:
        return "invalid named capture";
    case RE2::ErrorPatternTooLarge:
        return "expression too large";
    default:
        return "internal error";
    }
}

/* `pattern` is what was asked for, before as_re2(). */
nx_status fail_as_go(struct nx_err *err, const RE2 &re, const std::string &pattern)
{
    bool whole = re.error_code() == RE2::ErrorPatternTooLarge ||
                 re.error_code() == RE2::ErrorBadUTF8; /* where RE2 quotes nothing, Go all */
    std::string arg = whole ? re.pattern() : re.error_arg();

    if (arg.compare(0, 4, "(?P<") == 0 && pattern.find("(?P<") == std::string::npos)
        arg.erase(2, 1); /* as_re2() put it there */
    return nx_fail(err, NX_BADINPUT, "error parsing regexp: %s: `%s`", error_words(re.error_code()),
                   arg.c_str());
}

RE2::Options options_for(size_t pattern_len)
{
    RE2::Options o;
    size_t bytes = (8u << 20) + 256 * pattern_len;

    o.set_log_errors(false);
    o.set_max_mem(static_cast<int64_t>(bytes < (64u << 20) ? bytes : 64u << 20)); /* X3 */
    return o;
}

/* Go (1.22) takes (?<name>...) for (?P<name>...); RE2 of this age knows only the second. And RE2 has
 * \C for any byte, which Go has not: *any_byte. A quote that is open at the end is told,
 * too: it would take in what wraps the pattern. */
std::string as_re2(const std::string &p, bool *any_byte, bool *open_quote)
{
    std::string to;
    bool in_class = false;

    for (size_t i = 0; i < p.size(); i++) {
        if (p.compare(i, 2, "\\Q") == 0 && !in_class) {
            size_t end = p.find("\\E", i + 2);
            size_t len = (end == std::string::npos ? p.size() : end + 2) - i;
            to.append(p, i, len);
            *open_quote = end == std::string::npos;
            i += len - 1;
            continue;
        }
        to += p[i];
        if (p[i] == '\\' && i + 1 < p.size()) {
            *any_byte = *any_byte || p[i + 1] == 'C';
            to += p[++i];
        } else if (p[i] == '[' && !in_class) {
            in_class = true;
            if (p.compare(i + 1, 1, "^") == 0)
                to += p[++i];
            if (p.compare(i + 1, 1, "]") == 0) /* first in a class it is itself */
                to += p[++i];
        } else if (p[i] == '[' && p.compare(i, 2, "[:") == 0) {
            size_t end = p.find(":]", i + 2);
            if (end != std::string::npos) {
                to.append(p, i + 1, end + 2 - i - 1);
                i = end + 1;
            }
        } else if (p[i] == ']') {
            in_class = false;
        } else if (p[i] == '(' && !in_class && p.compare(i, 3, "(?<") == 0) {
            to += "?P<";
            i += 2;
        }
    }
    return to;
}

/* The literal character that starts at p[i], its length in the pattern in *len; "" if p[i] is an
 * operator or anything not plain beyond doubt (X2). */
std::string plain_character(const std::string &p, size_t i, size_t *len)
{
    unsigned char c = static_cast<unsigned char>(p[i]);

    if (c == '\\') {
        if (i + 1 >= p.size() || !ispunct(static_cast<unsigned char>(p[i + 1])))
            return "";
        *len = 2;
        return p.substr(i + 1, 1);
    }
    if (strchr(".+*?()|[]{}^$", c)) /* strchr also finds NUL: not plain either */
        return "";
    *len = 1;
    while (c >= 0x80 && i + *len < p.size() &&
           (static_cast<unsigned char>(p[i + *len]) & 0xc0) == 0x80)
        ++*len; /* valid UTF-8: it compiled */
    return p.substr(i, *len);
}

/* Takes off one group around the whole pattern: (a|b) or (?:a|b). */
std::string without_group(const std::string &p)
{
    if (p.size() < 2 || p[0] != '(' || p.back() != ')')
        return p;
    size_t from = p.compare(0, 3, "(?:") == 0 ? 3 : 1;
    std::string inner = p.substr(from, p.size() - from - 1);
    /* "(a)|(b)" is no single group: any parenthesis inside makes us give up, later, as it is not
     * plain. An escaped one at the end, "(a\)", does not compile. */
    return inner;
}

std::vector<std::string> find_literals(const std::string &pattern)
{
    const std::string p = without_group(pattern);
    std::vector<std::string> found(1);

    for (size_t i = 0, len = 0; i < p.size(); i += len) {
        if (p[i] == '|') {
            found.emplace_back();
            len = 1;
            continue;
        }
        std::string c = plain_character(p, i, &len);
        if (c.empty())
            return {};
        found.back() += c;
    }
    return found;
}

/* An alternative on the outside means that no prefix is common to all matches. */
bool has_outer_alternative(const std::string &p)
{
    int depth = 0;
    bool in_class = false;

    if (p.find("\\Q") != std::string::npos || p.find("[:") != std::string::npos)
        return true; /* not worth following: X2 */
    for (size_t i = 0; i < p.size(); i++) {
        if (p[i] == '\\') {
            i++;
        } else if (in_class) {
            in_class = p[i] != ']';
        } else if (p[i] == '[') {
            in_class = true;
            i += p.compare(i + 1, 2, "^]") == 0 ? 2 : p.compare(i + 1, 1, "]") == 0;
        } else if (p[i] == '(') {
            depth++;
        } else if (p[i] == ')') {
            depth--;
        } else if (p[i] == '|' && depth == 0) {
            return true;
        }
    }
    return false;
}

std::string find_prefix(const std::string &p)
{
    std::string found;
    size_t last = 0, i = 0, len = 0;

    if (has_outer_alternative(p))
        return "";
    for (; i < p.size(); i += len) {
        std::string c = plain_character(p, i, &len);
        if (c.empty())
            break;
        last = found.size();
        found += c;
    }
    if (i < p.size() && strchr("*?{+", p[i])) /* what follows repeats the last character */
        found.resize(last);
    return found;
}

/* X4 */
struct gaps find_gaps(const std::string &p)
{
    struct gaps g;

    g.parts.emplace_back();
    for (size_t i = 0, len = 0; i < p.size(); i += len) {
        if (p[i] == '.' && i + 1 < p.size() && (p[i + 1] == '*' || p[i + 1] == '+')) {
            const size_t one = p[i + 1] == '+';
            len = p.compare(i + 2, 1, "?") == 0 ? 3
                                                : 2; /* to match or not is the same for lazy ones */
            if (!g.min.empty() && g.parts.back().empty()) {
                g.min.back() += one;
                continue;
            }
            g.min.push_back(one);
            g.parts.emplace_back();
            continue;
        }
        std::string c = plain_character(p, i, &len);
        if (c.empty())
            return {};
        g.parts.back() += c;
    }
    return g.min.empty() ? gaps() : g;
}

bool is_ascii(struct nx_slice s)
{
    size_t i = 0;

    for (uint64_t w; i + 8 <= s.len; i += 8) {
        memcpy(&w, s.ptr + i, 8);
        if (w & UINT64_C(0x8080808080808080))
            return false;
    }
    for (; i < s.len; i++)
        if (static_cast<unsigned char>(s.ptr[i]) & 0x80)
            return false;
    return true;
}

bool gaps_match(const struct gaps &g, struct nx_slice text)
{
    const size_t n = g.min.size();
    const std::string &first = g.parts[0], &last = g.parts[n];
    size_t at = first.size();

    if (text.len < at || memcmp(text.ptr, first.data(), at) != 0)
        return false;
    for (size_t i = 1; i < n; i++) {
        at += g.min[i - 1];
        const void *found = at <= text.len ? memmem(text.ptr + at, text.len - at, g.parts[i].data(),
                                                    g.parts[i].size())
                                           : nullptr;
        if (!found)
            return false;
        at = static_cast<size_t>(static_cast<const char *>(found) - text.ptr) + g.parts[i].size();
    }
    at += g.min[n - 1];
    return text.len >= last.size() && at <= text.len - last.size() &&
           memcmp(text.ptr + text.len - last.size(), last.data(), last.size()) == 0;
}

bool is_utf8(const std::string &s)
{
    uint32_t code_point;

    for (size_t i = 0, n; i < s.size(); i += n) {
        n = text_utf8_take(nx_slice_of(s.data() + i, s.size() - i), &code_point);
        if (n == 0)
            return false;
    }
    return true;
}

enum compile_as { FOR_MATCHERS, FOR_RELABEL, FOR_SEARCH };

struct regex *compile(const std::string &pattern, enum compile_as as, struct nx_err *err,
                      nx_status *st)
{
    bool any_byte = false, open_quote = false;
    const std::string p = as_re2(pattern, &any_byte, &open_quote);
    const char *close = open_quote && as != FOR_RELABEL ? "\\E)$" : ")$";
    const RE2::Options o = options_for(p.size());
    std::unique_ptr<RE2> bare(new RE2(p, o)); /* X1 */
    std::unique_ptr<RE2> wrapped(new RE2("^(?s:" + p + close, o));

    if (!is_utf8(pattern)) { /* RE2 lets surrogates pass */
        *st =
            nx_fail(err, NX_BADINPUT, "error parsing regexp: invalid UTF-8: `%s`", pattern.c_str());
        return nullptr;
    }
    if (any_byte) {
        *st = nx_fail(err, NX_BADINPUT, "error parsing regexp: invalid escape sequence: `\\C`");
        return nullptr;
    }
    if (!bare->ok() || !wrapped->ok()) {
        bool of_wrapped = !wrapped->ok() && (as == FOR_RELABEL || bare->ok());
        *st = fail_as_go(err, of_wrapped ? *wrapped : *bare, pattern);
        return nullptr;
    }
    std::unique_ptr<struct regex> re(new struct regex());
    if (as == FOR_SEARCH)
        wrapped = std::move(bare);
    bare.reset();
    re->n_groups = wrapped->NumberOfCapturingGroups() + 1;
    if (re->n_groups > MAX_GROUPS)
        re->n_groups = MAX_GROUPS;
    re->literals = find_literals(pattern);
    if (re->literals.empty())
        re->gaps = find_gaps(pattern);
    for (const std::string &s : re->literals)
        re->literal_slices.push_back(nx_slice_of(s.data(), s.size()));
    re->prefix = re->literals.size() == 1 ? re->literals[0] : find_prefix(pattern);
    re->re = wrapped.release();
    return re.release();
}

struct match {
    re2::StringPiece groups[MAX_GROUPS];
    int n;
};

bool is_word_character(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (static_cast<unsigned char>(c) &
            0x80); /* letters beyond ASCII; all others are not names */
}

/* Reads "name" or "{name}" after a '$'; returns how many bytes, 0 if it is malformed. */
size_t take_reference(const char *p, const char *end, std::string *name)
{
    const char *from = p;
    bool brace = p < end && *p == '{';

    if (brace)
        p++;
    const char *start = p;
    while (p < end && is_word_character(*p))
        p++;
    name->assign(start, static_cast<size_t>(p - start));
    if (name->empty() || (brace && (p == end || *p != '}')))
        return 0;
    return static_cast<size_t>(p + brace - from);
}

/* The number that a name is, or -1: decimal, no leading zeros. */
int group_number(const std::string &name)
{
    int n = 0;

    if ((name[0] == '0' && name.size() > 1) || name.size() > 8)
        return -1;
    for (char c : name) {
        if (c < '0' || c > '9')
            return -1;
        n = n * 10 + (c - '0');
    }
    return n;
}

void put_group(const struct regex *re, const struct match *m, const std::string &name,
               struct buf *out)
{
    int n = group_number(name);

    if (n < 0) {
        const auto &names = re->re->NamedCapturingGroups();
        auto found = names.find(name);
        if (found == names.end())
            return;
        n = found->second;
    }
    if (n < m->n && m->groups[n].data())
        buf_append(out, m->groups[n].data(), m->groups[n].size());
}

} // namespace

static nx_status make(struct regex **out, struct nx_slice pattern, enum compile_as as,
                      struct nx_err *err)
{
    nx_status st = NX_OK;

    try {
        struct regex *re = compile(std::string(pattern.ptr, pattern.len), as, err, &st);

        if (re)
            *out = re;
        return st;
    } catch (const std::bad_alloc &) {
        return nx_fail(err, NX_NOMEM, "out of memory while compiling a regular expression");
    }
}

nx_status regex_new(struct regex **out, struct nx_slice pattern, struct nx_err *err)
{
    return make(out, pattern, FOR_MATCHERS, err);
}

nx_status regex_new_for_relabel(struct regex **out, struct nx_slice pattern, struct nx_err *err)
{
    return make(out, pattern, FOR_RELABEL, err);
}

nx_status regex_new_search(struct regex **out, struct nx_slice pattern, struct nx_err *err)
{
    return make(out, pattern, FOR_SEARCH, err);
}

void regex_free(struct regex *re)
{
    if (re)
        delete re->re;
    delete re;
}

bool regex_match(const struct regex *re, struct nx_slice text)
{
    if (!re->literals.empty() && re->literals.size() <= FEW_LITERALS) { /* X4 */
        for (const std::string &s : re->literals)
            if (s.size() == text.len && memcmp(s.data(), text.ptr, text.len) == 0)
                return true;
        return false;
    }
    if (!re->gaps.parts.empty() && is_ascii(text))
        return gaps_match(re->gaps, text);
    return re->re->Match(re2::StringPiece(text.ptr, text.len), 0, text.len, RE2::ANCHOR_BOTH,
                         nullptr, 0);
}

static void put_expanded(const struct regex *re, const struct match *m, struct nx_slice tmpl,
                         struct buf *out)
{
    const char *p = tmpl.ptr, *end = tmpl.ptr + tmpl.len;
    std::string name;

    while (p < end) {
        const void *at = memchr(p, '$', static_cast<size_t>(end - p));
        const char *dollar = at ? static_cast<const char *>(at) : end;

        buf_append(out, p, static_cast<size_t>(dollar - p));
        if (dollar == end)
            break;
        p = dollar + 1;
        if (p < end && *p == '$') {
            buf_char(out, '$');
            p++;
            continue;
        }
        size_t n = take_reference(p, end, &name);
        if (n)
            put_group(re, m, name, out);
        else
            buf_char(out, '$'); /* malformed: stays as it is */
        p += n;
    }
}

bool regex_expand(const struct regex *re, struct nx_slice text, struct nx_slice tmpl,
                  struct buf *out)
{
    struct match m;

    m.n = re->n_groups;
    if (!re->re->Match(re2::StringPiece(text.ptr, text.len), 0, text.len, RE2::ANCHOR_BOTH,
                       m.groups, m.n))
        return false;
    put_expanded(re, &m, tmpl, out);
    return true;
}

bool regex_search(const struct regex *re, struct nx_slice text)
{
    return re->re->Match(re2::StringPiece(text.ptr, text.len), 0, text.len, RE2::UNANCHORED,
                         nullptr, 0);
}

/* As Go's ReplaceAll: matches do not overlap, and none that is empty follows right after another. */
void regex_replace_all(const struct regex *re, struct nx_slice text, struct nx_slice tmpl,
                       struct buf *out)
{
    const re2::StringPiece all(text.ptr, text.len);
    struct match m;
    size_t at = 0, copied = 0; /* where the next search begins; what is in `out` */
    uint32_t c;

    m.n = re->n_groups;
    while (at <= text.len && re->re->Match(all, at, text.len, RE2::UNANCHORED, m.groups, m.n)) {
        size_t from = static_cast<size_t>(m.groups[0].data() - text.ptr);
        size_t to = from + m.groups[0].size();

        buf_append(out, text.ptr + copied, from - copied);
        if (to > copied || from == 0)
            put_expanded(re, &m, tmpl, out);
        copied = to;
        if (to > at) {
            at = to;
        } else { /* empty: one character on */
            size_t n = text_utf8_take(nx_slice_of(text.ptr + at, text.len - at), &c);
            at += n ? n : 1;
        }
    }
    buf_append(out, text.ptr + copied, text.len - copied);
}

size_t regex_literals(const struct regex *re, const struct nx_slice **out)
{
    *out = re->literal_slices.data();
    return re->literal_slices.size();
}

struct nx_slice regex_prefix(const struct regex *re)
{
    return nx_slice_of(re->prefix.data(), re->prefix.size());
}
