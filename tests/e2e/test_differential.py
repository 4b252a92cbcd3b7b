"""Narthex and Prometheus over identical samples: whatever is asked, the answers agree.

WHY    test_queries.py compares what dashboards ask. Here are many more expressions (expressions.yml), and
       random ones from the whole grammar (diffgen.py), to find what nobody thought of.

SHAPE  One file of samples is loaded into both by `tsdb create-blocks-from openmetrics`. Before that its times
       leave the grid of the queries, and `le` and `quantile` get the form that Prometheus 3 gives them, so that
       the known differences between 2.x (which Debian has) and 3.x cannot show. What remains of them is KNOWN.

RULES  T1  A difference passes only if an entry of KNOWN explains it, by looking at this very answer: there is
           no list of expressions that are left out.
       T2  Explained differences are few; the test fails where they are not.
       T3  What fails is made small before it is shown, with the seed that makes it again.

NX_DIFF_CASES   how many random expressions (default below)     NX_DIFF_SEED       what they are made from
NX_DIFF_FIRST   the number of the first one                     NX_DIFF_REFERENCE  another Prometheus's binary
"""

import gzip
import http.client
import json
import math
import os
import re
import subprocess
import threading
import urllib.parse

import pytest
import yaml

import diffgen
import harness
import omcluster
import omdata

HERE = os.path.dirname(os.path.abspath(__file__))
REAL = os.path.join(harness.SHARED, "data/real.om.gz")
REFERENCE = os.environ.get("NX_DIFF_REFERENCE") or harness.PROMETHEUS
SEED = os.environ.get("NX_DIFF_SEED", "1")
CASES = int(os.environ.get("NX_DIFF_CASES", "2000"))
FIRST = int(os.environ.get("NX_DIFF_FIRST", "0"))
CONFIG = "global:\n  scrape_interval: 1m\n  evaluation_interval: 1m\n"
LONG = ["--storage.tsdb.retention.time=100y"]
EXPERIMENTAL = ["--enable-feature=promql-experimental-functions"]
BATCH = 250
REL = 1e-9

with open(os.path.join(HERE, "expressions.yml"), encoding="utf-8") as f:
    EXPRESSIONS = [e if isinstance(e, dict) else {"expr": e} for group in yaml.safe_load(f).values() for e in group]


# --- the two servers ------------------------------------------------------------------------------


class Reply:
    """One answer, as far as it is compared."""

    def __init__(self, status, body):
        got = json.loads(body)
        self.status = status
        self.ok = got["status"] == "success"
        self.data = got.get("data")
        self.kind, self.error = got.get("errorType"), got.get("error")
        self.warnings, self.infos = got.get("warnings", []), got.get("infos", [])


class Asker:
    """One connection to one server."""

    def __init__(self, server, old):
        self.server, self.old, self.conn = server, old, None

    def ask(self, q):
        """q is ("query", expr, time), ("query_range", expr, start, end, step) or ("get", path, parameters)."""
        if q[0] == "query":
            path, form = "/api/v1/query", {"query": self.worded(q[1]), "time": "%.3f" % q[2]}
        elif q[0] == "query_range":
            path, form = "/api/v1/query_range", {"query": self.worded(q[1]), "start": "%.3f" % q[2], "end": "%.3f" % q[3], "step": q[4]}
        else:
            path, form = q[1], q[2]
        body = urllib.parse.urlencode(form, doseq=True)
        method, headers = "POST", {"Content-Type": "application/x-www-form-urlencoded"}
        if q[0] == "get":
            method, path, body, headers = "GET", path + "?" + body, None, {}
        for attempt in (1, 2):
            try:
                if self.conn is None:
                    self.conn = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
                self.conn.request(method, path, body=body, headers=headers)
                r = self.conn.getresponse()
                return Reply(r.status, r.read())
            except (http.client.HTTPException, ConnectionError):
                self.conn.close()
                self.conn = None
                if attempt == 2 or not self.server.alive():
                    raise

    def worded(self, expr):
        """The function was renamed in 3.0, nothing else about it."""
        return expr.replace("double_exponential_smoothing(", "holt_winters(") if self.old else expr


class Pair:
    def __init__(self, stage, om_file):
        version = subprocess.run([REFERENCE, "--version"], capture_output=True, text=True, timeout=60)
        self.old = " version 2." in version.stdout + version.stderr
        self.servers, self.askers, self.seen = [], [], {}
        for binary, name in ((harness.BINARY, "tested"), (REFERENCE, "reference")):
            data = os.path.join(stage.folder, name + "-data")
            os.makedirs(data)
            maker = harness.PROMETHEUS if name == "reference" else binary
            r = harness.run_tool(maker, "tsdb", "create-blocks-from", "openmetrics", om_file, data, timeout=300)
            assert r.returncode == 0, r.stderr[-3000:]
            old = self.old and name == "reference" or harness.IS_REFERENCE
            flags = LONG if old else LONG + EXPERIMENTAL
            self.servers.append(stage.run(harness.Server(binary, stage.folder, CONFIG, flags, name=name, data=data)))
            self.askers.append(Asker(self.servers[-1], old))

    def ask_all(self, queries):
        """[(tested's reply, reference's reply)]; each server answers on its own thread."""
        out = [None, None]

        def run(i):
            try:
                out[i] = [self.askers[i].ask(q) for q in queries]
            except Exception as e:
                out[i] = e

        threads = [threading.Thread(target=run, args=(i,)) for i in (0, 1)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for i, o in enumerate(out):
            if isinstance(o, Exception):
                raise AssertionError(f"{self.servers[i].name}: {o!r}\n{self.servers[i].log()[-3000:]}")
        return list(zip(*out))

    def ask(self, q):
        return self.ask_all([q])[0]

    def reference(self, q):
        """What explains one difference often explains the next."""
        if q not in self.seen:
            self.seen[q] = self.askers[1].ask(q)
        return self.seen[q]


# --- comparing ------------------------------------------------------------------------------------


def numbers_differ(a, b):
    return a != b and not harness.same_number(a, b, REL)


def parts(data):
    """{labels: {time: value}} and the order of the labels."""
    out, order = {}, []
    for e in data["result"]:
        key = tuple(sorted(e["metric"].items()))
        assert key not in out, f"answered twice: {key}"
        out[key] = dict([e["value"]] if "value" in e else e["values"])
        order.append(key)
    return out, order


def first_words(text):
    """An error without what depends on which of several culprits was met first."""
    return re.sub(r"\{.*", "", text or "", flags=re.S)


def same_in_other_words(got, want):
    """An error of 3.x and one of 2.x: the range endpoint has a prefix now, regexes are quoted as written, operators
    named, and durations may be numbers and more (PQL-009, PQL-035)."""
    want = want.replace("`^(?:", "`").replace(")$`", "`")
    want = re.sub(r'"<Item \d+>" (?=<op:)', "", want)
    want = want.replace("expected duration", "expected number, duration, step(), or range()")
    return got in (want, 'invalid parameter "query": ' + want)


def promises_order(q):
    """Of a topk by groups only each group's elements are in order: not looked at."""
    return q[0] == "query" and (re.match(r"sort(_desc)?\(", q[1]) or re.match(r"(top|bottom)k\(.*\)$", q[1], re.S))


def values_in_order(data):
    return [e["value"][1] for e in data["result"]]


def differences(got, want, sorting=False):
    """Lines; empty when the answers agree. `sorting`: the order of an instant vector counts (equal values may
    change places); that of a matrix always does."""
    if got.ok != want.ok:
        return [f"got {'an answer' if got.ok else got.error!r}, want {'an answer' if want.ok else want.error!r}"]
    if not got.ok:
        a, b = (got.status, got.kind, first_words(got.error)), (want.status, want.kind, first_words(want.error))
        return [] if a == b else [f"error: got {a}, want {b}"]
    if got.data["resultType"] != want.data["resultType"]:
        return [f"type: got {got.data['resultType']}, want {want.data['resultType']}"]
    if got.data["resultType"] in ("scalar", "string"):
        (t1, v1), (t2, v2) = got.data["result"], want.data["result"]
        same = t1 == t2 and (v1 == v2 if got.data["resultType"] == "string" else not numbers_differ(v1, v2))
        return [] if same else [f"got {got.data['result']}, want {want.data['result']}"]
    a, order_a = parts(got.data)
    b, order_b = parts(want.data)
    lines = [f"too much: {dict(k)} = {list(a[k].items())[:3]}" for k in a if k not in b]
    lines += [f"missing: {dict(k)} = {list(b[k].items())[:3]}" for k in b if k not in a]
    for key in a:
        for t in sorted(set(a[key]) | set(b.get(key, {}))) if key in b else ():
            if t not in a[key] or t not in b[key] or numbers_differ(a[key][t], b[key][t]):
                lines.append(f"{dict(key)} at {t}: got {a[key].get(t)}, want {b[key].get(t)}")
    if not lines and got.data["resultType"] == "matrix" and order_a != order_b:
        lines.append(f"order: got {order_a}, want {order_b}")
    if not lines and sorting and any(map(numbers_differ, values_in_order(got.data), values_in_order(want.data))):
        lines.append(f"order: got {got.data['result']}, want {want.data['result']}")
    return lines


# --- what 2.x and 3.x do differently ----------------------------------------------------------------


class Case:
    """A query whose answers differ, for the entries of KNOWN to look at."""

    def __init__(self, pair, q, got, want, node=None):
        self.pair, self.q, self.got, self.want, self.node = pair, q, got, want, node
        self.expr = q[1]

    def times(self):
        if self.q[0] == "query":
            return [self.q[2]]
        _, _, start, end, step = self.q
        return [round(start + k * step, 3) for k in range(int((end - start) / step + 1e-9) + 1)]

    def ends(self):
        return (self.q[2], self.q[2]) if self.q[0] == "query" else (self.q[2], self.q[3])


def closing(text, i):
    """The place of the parenthesis that closes the one at i. No string of ours has parentheses out of pairs,
    but strings are skipped all the same."""
    depth, quoted = 0, False
    while i < len(text):
        if quoted:
            if text[i] == "\\":
                i += 1
            quoted = text[i] != '"'
        elif text[i] == '"':
            quoted = True
        elif text[i] == "(":
            depth += 1
        elif text[i] == ")":
            depth -= 1
            if depth == 0:
                return i
        i += 1
    raise AssertionError(text)


def opening(text, i):
    for k in range(i, -1, -1):
        if text[k] == "(" and closing(text, k) == i:
            while k and (text[k - 1].isalnum() or text[k - 1] == "_"):
                k -= 1
            return k
    raise AssertionError(text)


WINDOW = re.compile(r"\[([0-9a-z]+)(?:(:)([0-9a-z]*))?\]((?: (?:offset -?[0-9a-z]+|@ (?:start\(\)|end\(\)|[0-9.]+)))*)")


def window_of(m):
    """A match of WINDOW as numbers: range, step or None, offset, @ or None."""
    offset = re.search(r"offset (-?)([0-9a-z]+)", m[4])
    at = re.search(r"@ (start|end|[0-9.]+)", m[4])
    shift = diffgen.seconds(offset[2]) * (-1 if offset[1] else 1) if offset else 0.0
    return diffgen.seconds(m[1]), (diffgen.seconds(m[3]) if m[3] else 60) if m[2] else None, shift, at[1] if at else None


def moved(t, offset, at, ends):
    if at is not None:
        t = ends[0] if at == "start" else ends[1] if at == "end" else float(at)
    return t - offset


def calls(case, names):
    """(name, argument's text, its window, every time it is evaluated at) of each such call of a range function."""
    text, ends = case.expr, case.ends()
    subqueries = []
    for m in WINDOW.finditer(text):
        if m[2] is not None:
            end = m.start()
            begin = opening(text, end - 1) if text[end - 1] == ")" else 0
            subqueries.append((begin, end, window_of(m)))
    for m in re.finditer(r"\b(%s)\(" % "|".join(names), text):
        last = closing(text, m.end() - 1)
        argument = text[m.end():last]
        windows = [w for w in WINDOW.finditer(argument)]
        if not windows:
            continue
        times = case.times()
        for _, _, (size, step, offset, at) in sorted(s for s in subqueries if s[0] <= m.start() and last < s[1]):
            inner = set()
            for t in times:
                hi = moved(t, offset, at, ends)
                k = math.floor(hi / step + 1e-9)
                while k * step > hi - size + 1e-6:
                    inner.add(k * step)
                    k -= 1
            times = sorted(inner)
        for which, end in (("start()", ends[0]), ("end()", ends[1])):
            argument = argument.replace(which, "%.3f" % end)
        yield m[1], argument, window_of(windows[-1]), times


def extrapolated(points, begin, end, rate, old):
    """rate() or increase() of a window's points [(time, value)], as 2.x or 3.x has it (PQL-121 to 125)."""
    grown = points[-1][1] - points[0][1] + sum(a for (_, a), (_, b) in zip(points, points[1:]) if b < a)
    sampled = points[-1][0] - points[0][0]
    gap = sampled / (len(points) - 1)
    before, after = points[0][0] - begin, end - points[-1][0]
    zero = sampled * points[0][1] / grown if grown > 0 and points[0][1] >= 0 else math.inf
    if old:
        before = min(before, zero)
    if before >= 1.1 * gap:
        before = gap / 2
    if after >= 1.1 * gap:
        after = gap / 2
    if not old:
        before = min(before, zero)
    return grown * (sampled + before + after) / sampled / (end - begin if rate else 1)


def capped_at_zero(case):
    """PQL-124: where the first sample of a window is far from its start, 2.x caps the way back to zero before
    the choice between that way and half a gap, 3.x after it. One such window is looked for; in it each answers
    what its formula says."""
    for name, argument, (size, _, offset, at), times in calls(case, ("rate", "increase")):
        for t in times[:600]:
            reply = case.pair.reference(("query", argument, t))
            if not reply.ok:
                continue
            end = moved(t, offset, at, case.ends())
            for e in reply.data["result"]:
                points = [(p[0], float(p[1])) for p in e["values"]]
                if len(points) < 2 or not all(math.isfinite(v) for _, v in points):
                    continue
                formulas = [extrapolated(points, end - size, end, name == "rate", old) for old in (False, True)]
                if not math.isclose(*formulas, rel_tol=1e-8):
                    key = tuple(sorted((k, v) for k, v in e["metric"].items() if k != "__name__"))
                    said = [parts(r.data)[0] if r.ok else {} for r in case.pair.ask(("query", f"{name}({argument})", t))]
                    return all(key in s and math.isclose(float(s[key][t]), f, rel_tol=1e-6) for s, f in zip(said, formulas))
    return False


def values(case):
    """(got, want) of every point that differs; None if more than numbers do."""
    if not (case.got.ok and case.want.ok) or case.got.data["resultType"] not in ("vector", "matrix"):
        return None
    a, b = parts(case.got.data)[0], parts(case.want.data)[0]
    if {k: set(v) for k, v in a.items()} != {k: set(v) for k, v in b.items()}:
        return None
    return [(float(a[k][t]), float(b[k][t])) for k in a for t in a[k] if numbers_differ(a[k][t], b[k][t])]


def last_digits(case):
    """Sums in another order, then a difference of two nearly equal ones (D1): the error is small beside the
    largest value on the way, not beside what is left."""
    apart = values(case)
    if not apart or not case.node or case.node.noise < 2:
        return False
    largest = 1.0
    for n, around in case.node.walk():
        if n.type not in ("vector", "scalar") or around:
            continue
        reply = case.pair.reference((case.q[0], str(n)) + case.q[2:])
        if reply.ok:
            found = reply.data["result"] if reply.data["resultType"] != "scalar" else [{"value": reply.data["result"]}]
            numbers = [abs(float(v)) for e in found for _, v in ([e["value"]] if "value" in e else e["values"])]
            largest = max([largest] + [v for v in numbers if math.isfinite(v)])
    return all(abs(x - y) <= 1e-13 * largest * math.sqrt(max(1.0, abs(y))) for x, y in apart)


def other_of_equals(case):
    """topk and bottomk of more equal values than they may take, limitk of more than it may take: which ones is
    nobody's promise (in 3.x it depends on the order of a Go map). As many, and the same values, at each time
    they are."""
    if not re.match(r"(topk|bottomk|limitk)\b", case.expr) or not (case.got.ok and case.want.ok):
        return False
    by_time = []
    for data in (case.got.data, case.want.data):
        at = {}
        for points in parts(data)[0].values():
            for t, v in points.items():
                at.setdefault(t, []).append(v)
        by_time.append({t: len(v) if case.expr.startswith("limitk") else sorted(repr(float(x) + 0.0) for x in v) for t, v in at.items()})
    return by_time[0] == by_time[1]


def told_otherwise(case):
    """Known changes of the texts of errors."""
    if case.pair.old and "double_exponential_smoothing" in case.expr:  # its old name is shorter: positions behind it are others
        return not case.got.ok and not case.want.ok and case.got.kind == case.want.kind
    return not case.got.ok and not case.want.ok and (case.got.status, case.got.kind) == (case.want.status, case.want.kind) \
        and same_in_other_words(first_words(case.got.error), first_words(case.want.error))


def asked_instead(case, pattern, replacement):
    """Is it that one operator, and nothing around it: do the answers agree with another one in its place?"""
    expr, n = re.subn(pattern, replacement, case.expr)
    if not n:
        return False
    q = (case.q[0], expr) + case.q[2:]
    got, want = case.pair.ask(q)
    return not differences(got, want)


def atan2_with_scalar(case):
    """2.x: a vector atan2 a scalar is empty."""
    return asked_instead(case, r"\batan2\b", "*")


def spread_of_infinite(case):
    """2.x: stddev and stdvar of a single infinity or NaN is 0; 3.x: NaN (PQL-085). Squares beyond all numbers
    make 2.x say NaN for windows, 3.x +Inf."""
    return asked_instead(case, r"\b(stddev|stdvar)(_over_time)?\b", lambda m: "count_over_time" if m[2] else "group")


def matched_and_dropped(case):
    """2.x: a second match of one label set is an error only where the comparison holds; 3.x: always (PQL-072).
    With bool, where it always holds, both fail."""
    return not case.got.ok and case.got.error.startswith("multiple matches for labels") \
        and asked_instead(case, r" (==|!=|>=|<=|>|<) (?!bool)", r" \1 bool ")


def counted_in_wrong_groups(case):
    """2.x: count_values by labels of which one sorts after the new one mixes groups."""
    return asked_instead(case, r"""(count_values(?: \w+ \([^)]*\))? ?\()"\w+\"""", r'\1"zz"')


def dot_matches_newline(case):
    """The dot of 2.x does not match a newline, that of 3.x does (PQL-029)."""
    return asked_instead(case, r'([=!]~)"([^"]*)"', r'\1"(?s:\2)"')


def parameter_at(case):
    """@ in the parameter of an aggregation: Prometheus does not hold it at its time over the steps of a range;
    nor does 2.x in predict_linear and quantile_over_time. Each step asked for alone is the same."""
    names = "quantile|topk|bottomk" + ("|predict_linear|quantile_over_time" if case.pair.old else "")
    if case.q[0] != "query_range" or not re.search(rf"\b({names})\b.*@", case.expr, re.S):
        return False
    ends = dict(zip(("start()", "end()"), ("%.3f" % t for t in case.ends())))
    expr = re.sub(r"(start|end)\(\)", lambda m: ends[m[0]], case.expr)
    return not any(differences(got, want) for got, want in case.pair.ask_all([("query", expr, t) for t in case.times()]))


def absent_of_label_twice(case):
    """absent(x{a!="1",a="2"}): the last of the matchers decides; 3.x first brings those that take series away to the end."""
    lists = [re.findall(r"(\w+)[=!]", m) for m in re.findall(r"\{([^}]*)\}", case.expr)]
    twice = any(len(names) > len(set(names)) for names in lists)
    return twice and asked_instead(case, r"\babsent(_over_time)?\(", lambda m: f"count{m[1] or ''}(")


def range_vector_in_order(case):
    """A range vector as a result: 3.x sorts its series (PQL-051), 2.x does not."""
    if case.q[0] != "query" or not (case.got.ok and case.want.ok) or case.got.data["resultType"] != "matrix":
        return False
    (a, got), (b, want) = parts(case.got.data), parts(case.want.data)
    case.want.data["result"].sort(key=lambda e: got.index(tuple(sorted(e["metric"].items()))) if a.keys() == b.keys() else 0)
    return got == sorted(got) and sorted(want) == got and not differences(case.got, case.want)


def logarithm_of_denormal(case):
    """log2, log10 and ln of numbers below 2.3e-308: the Go that Debian's Prometheus is built with takes them for that one."""
    return asked_instead(case, r"\b(log2|log10|ln)\(", "sgn(")


def sign_of_zero(case):
    """min and max of 0 and -0, which are equal, keep the one that came first; what divides by it shows which that was."""
    apart = values(case)
    return bool(apart) and all(math.isinf(x) and x == -y for x, y in apart) and asked_instead(case, r"\b(min|max)\b(?=[ (])", "sum")


# (name, whether only of 2.x, predicate); its docstring is the reason.
KNOWN = [
    ("error text", True, told_otherwise),
    ("other of equals", False, other_of_equals),
    ("last digits", False, last_digits),
    ("parameter @", False, parameter_at),
    ("sign of zero", False, sign_of_zero),
    ("absent of label twice", True, absent_of_label_twice),
    ("range vector in order", True, range_vector_in_order),
    ("atan2", True, atan2_with_scalar),
    ("dot", True, dot_matches_newline),
    ("matched and dropped", True, matched_and_dropped),
    ("count_values groups", True, counted_in_wrong_groups),
    ("spread of infinite", True, spread_of_infinite),
    ("zero capping", True, capped_at_zero),
    ("logarithm of denormal", True, logarithm_of_denormal),
]


def explained(case):
    """The name of what explains this difference (T1), or None."""
    for name, of_old, predicate in KNOWN:
        if (case.pair.old or not of_old) and predicate(case):
            return name
    return None


class Verdict:
    def __init__(self):
        self.asked = self.failed_alike = self.found = 0
        self.known, self.wrong = {}, []

    def share_explained(self):
        """T2; texts of errors apart, which are looked at one by one anyway."""
        return sum(n for name, n in self.known.items() if name != "error text") / max(1, self.asked)

    def line(self):
        return (f"{self.asked} queries, {self.found} with results, {self.failed_alike} failed alike; "
                f"explained: {self.known or 'none'}; {len(self.wrong)} wrong")


def judge(pair, q, got, want, verdict, node=None):
    """Lines of what is wrong with an answer."""
    verdict.asked += 1
    lines = differences(got, want, sorting=promises_order(q))
    if not lines:
        verdict.failed_alike += not want.ok
        verdict.found += bool(want.ok and want.data["result"])
        lines = annotations_differ(pair, got, want)
    if lines:
        name = explained(Case(pair, q, got, want, node))
        if name:
            verdict.known[name] = verdict.known.get(name, 0) + 1
            return []
    return lines


def said(texts):
    """Annotations in order. How many samples were made monotonic is counted wrongly by 3.x (twice as many with
    each step); which ten of many are told depends on the order of a Go map."""
    texts = sorted(re.sub(r", over \d+ samples", "", t) for t in texts)
    return [len(texts), texts[0]] if texts and texts[0].endswith("omitted") else texts


def annotations_differ(pair, got, want):
    """2.x has no annotations: what 3.x says there must at least be one. Otherwise they are the same."""
    if not pair.old:
        return [f"{level}: got {a}, want {b}" for level, a, b in (("warnings", said(got.warnings), said(want.warnings)),
                                                                 ("infos", said(got.infos), said(want.infos))) if a != b]
    return [f"not a {level}: {t}" for level, texts in (("warning", got.warnings), ("info", got.infos)) for t in texts
            if not re.match(rf"PromQL {level}: .* \(\d+:\d+\)$|\d+ more {level} annotations omitted$", t)]


def run_random(pair, numbers, verdict):
    for begin in range(0, len(numbers), BATCH):
        cases, queries = [], []
        for n in numbers[begin:begin + BATCH]:
            node, at, (start, end, step) = diffgen.case(SEED, n, modern=not pair.old)
            for q in (("query", str(node), at), ("query_range", str(node), start, end, step)):
                cases.append((n, node))
                queries.append(q)
        for (n, node), q, (got, want) in zip(cases, queries, pair.ask_all(queries)):
            lines = judge(pair, q, got, want, verdict, node)
            if lines:
                verdict.wrong.append(story(pair, n, node, q, lines))
        if len(verdict.wrong) >= 40:
            break


def story(pair, n, node, q, lines):
    def fails(variant):
        again = (q[0], str(variant)) + q[2:]
        got, want = pair.ask(again)
        return bool(judge(pair, again, got, want, Verdict(), variant))

    small = diffgen.minimise(node, fails)
    again = (q[0], str(small)) + q[2:]
    shown = judge(pair, again, *pair.ask(again), Verdict(), small) or lines
    return f"seed {SEED} number {n}: {q[0]} {small}\n    at {q[2:]}\n    " + "\n    ".join(l[:400] for l in shown[:4])


# --- the data --------------------------------------------------------------------------------------


def normal(lines):
    """Lines of samples as both shall have them: off the grid (D2), bounds in the form of Prometheus 3."""
    last = head = None
    times = {}  # there are few of them, many times over
    for line in lines:
        if line[0] == "#":
            yield line
            continue
        series, value, at = line.rsplit(" ", 2)
        if series != last:
            last = series
            head = re.sub(r'([{,](?:le|quantile)=")([^"]*)"', lambda m: f'{m[1]}{bound(m[2])}"', series)
        if at not in times:
            ms = diffgen.off_grid(round(float(at) * 1000) + 137)
            times[at] = f"{ms // 1000}.{ms % 1000:03d}\n"
        yield f"{head} {value} {times[at]}"


def bound(text):
    """As 3.x writes a le or a quantile, for the numbers that occur here."""
    v = float(text)
    return text if math.isinf(v) else repr(v)


def write_data(name, folder):
    path = os.path.join(folder, "data.om")
    if name == "random":
        diffgen.write_data(path)
        return path
    if name == "made":
        omdata.write(path + ".raw", [omcluster.cluster])
        source = open(path + ".raw", encoding="utf-8")
    else:
        if not os.path.exists(REAL):
            pytest.skip(f"{REAL} is not there")
        source = gzip.open(REAL, "rt", encoding="utf-8")
    with source, open(path, "w", encoding="utf-8") as dst:
        dst.writelines(normal(source))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Made when first asked for; the real recording may be absent."""
    stages, made = [], {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            path = write_data(name, folder)
            stages.append(harness.Stage(folder))
            made[name] = Pair(stages[-1], path)
        return made[name]

    yield get
    for s in stages:
        s.close()


def test_known_differences_are_written_down():
    """docs/PROMQL.md is what users read: it has the name of each, and no name of none."""
    with open(os.path.join(HERE, "../../docs/PROMQL.md"), encoding="utf-8") as f:
        table = f.read().split("## From Prometheus 2.42")[1]
    named = {n for row in re.findall(r"^\| ([^|]+) \|", table, re.M) for n in row.split(", ")} - {"name"}
    assert named == {name for name, _, _ in KNOWN}


def test_there_are_enough_expressions():
    texts = [e["expr"] for e in EXPRESSIONS]
    assert len(texts) >= 500 and len(set(texts)) == len(texts)


# (an instant, ranges as start, end, step), by data. Fractions of no sample (D2); steps are whole seconds.
TIMES = {
    "made": (omdata.START + 7903.3, [(omdata.START + 6913.3, omdata.START + 8413.3, 60), (omdata.START + 313.3, omdata.START + 16213.3, 1200)]),
    "real": (1735689600 + 1807.3, [(1735689600 + 1333.3, 1735689600 + 2233.3, 60), (1735689600 + 247.3, 1735689600 + 2460.3, 283)]),
}


@pytest.mark.parametrize("data", list(TIMES))
def test_expressions_agree(pairs, data):
    pair = pairs(data)
    at, ranges = TIMES[data]
    verdict = Verdict()
    useless = []
    queries, entries = [], []
    for e in EXPRESSIONS:
        for q in [("query", e["expr"], at)] + [("query_range", e["expr"], *r) for r in ranges]:
            queries.append(q)
            entries.append(e)
    found = {}
    for e, q, (got, want) in zip(entries, queries, pair.ask_all(queries)):
        verdict.wrong += [f"{q}: {line[:600]}" for line in judge(pair, q, got, want, verdict)[:4]]
        found[e["expr"]] = found.get(e["expr"], False) or bool(want.ok and want.data["result"])
        if want.ok == e.get("fails", False):
            useless.append(f"{q}: {want.error or 'an answer'}")
    print(f"{data}: {verdict.line()}")
    useless += [f"{e['expr']} finds nothing in {data}: it proves nothing" for e in EXPRESSIONS
                if e.get("in") == data and not found[e["expr"]] and not e.get("empty") and not e.get("fails")]
    assert not verdict.wrong, "\n".join([verdict.line()] + verdict.wrong[:60])
    assert not useless, "\n".join(useless)
    # In the recording targets start again and series begin: rate() shows it (PQL-124).
    assert verdict.share_explained() < (0.12 if data == "real" else 0.01), verdict.line()
    assert sum(found.values()) > 300


def test_random_expressions_agree(pairs):
    pair = pairs("random")
    verdict = Verdict()
    run_random(pair, list(range(FIRST, FIRST + CASES)), verdict)
    print(f"seed {SEED}: {verdict.line()}")
    assert not verdict.wrong, f"seed {SEED}: {verdict.line()}\n" + "\n".join(verdict.wrong[:40])
    assert verdict.share_explained() < 0.03 and verdict.found > verdict.asked / 3, verdict.line()


# What 2.x says of text that 3.x understands, or understands better. Only these may be answered otherwise, and
# only by another error of the same kind or by an answer.
OLD_GRAMMAR = [
    (r"missing unit character in duration|bad duration syntax|unexpected duration|expected duration|unknown unit|unexpected colon",
     "3.x takes numbers for durations, durations for numbers, and expressions of both (PQL-009, PQL-035)"),
    (r'in subquery or range, expected ":" or "\]"|in subquery selector, expected "\]"', "likewise"),
    (r"trailing commas not allowed in function call args", "where the comma is before a duration: likewise"),
    (r"not a valid duration string", "the position is that of the duration in 3.x, not that of the selector"),
    (r"unexpected string \".*\"(\.\.\.)? in (label matching|grouping opts)", "names may be quoted in 3.x (PQL-012)"),
    (r"unexpected metric identifier .* in grouping opts", "names may have colons in 3.x"),
    (r'unexpected "\("( in aggregation| in grouping opts|$)', "start, end and others are functions in 3.x (PQL-118)"),
    (r"bad number or duration syntax|error parsing number|unexpected number", "3.x lexes numbers and durations as one (PQL-006, PQL-009)"),
    (r"invalid (source |destination )?label name", "a label's name may be any text in 3.x (PQL-012)"),
    (r"unexpected <op:/>", "3.x has the operators </ and >/ (PQL-080)"),
    (r"^unexpected number of samples$", "2.x fails on a range vector with @ in parentheses"),
]


def test_broken_expressions_are_refused_alike(pairs):
    pair = pairs("random")
    queries = [("query", diffgen.broken(SEED, n), diffgen.START + 2000.3) for n in range(FIRST, FIRST + CASES)]
    wrong, refused, known = [], 0, 0
    for q, (got, want) in zip(queries, pair.ask_all(queries)):
        refused += not want.ok
        if got.ok and want.ok:
            continue
        if not got.ok and not want.ok and same_in_other_words(first_words(got.error), first_words(want.error)):
            continue
        if pair.old and not want.ok and (got.ok or got.kind in ("bad_data", "execution")) \
                and any(re.search(p, want.error) for p, _ in OLD_GRAMMAR):
            known += 1
        elif not explained(Case(pair, q, got, want)):
            wrong.append(f"{q[1]}\n    got  {got.error}\n    want {want.error}")
    print(f"seed {SEED}: {refused} of {len(queries)} refused, {known} of them otherwise by 3.x")
    assert not wrong, f"seed {SEED}: {len(wrong)} of {len(queries)} differ\n" + "\n".join(wrong[:40])
    assert refused > len(queries) / 2 and known < len(queries) / 10


# Beyond all data: what lies in the same block as the times asked for is each storage's own affair.
AROUND = {"start": diffgen.START - 90_000, "end": diffgen.START + 90_000}


def test_random_matchers_find_the_same_series_and_labels(pairs):
    pair = pairs("random")
    queries = []
    for n in range(min(CASES // 5, 5000)):
        match = [diffgen.random_matchers(SEED, f"{n}/{i}") for i in range(1 + n % 3 // 2)]
        form = {**AROUND, "match[]": match}
        label = ("job", "instance", "a", "le", "__name__", "missing")[n % 6]
        queries += [("get", "/api/v1/series", form), ("get", "/api/v1/labels", form), ("get", f"/api/v1/label/{label}/values", form)]
    wrong, found = [], 0
    for q, (got, want) in zip(queries, pair.ask_all(queries)):
        if got.ok and want.ok:
            a, b = got.data, want.data
            if q[1].endswith("series"):
                a, b = (sorted(json.dumps(m, sort_keys=True) for m in d) for d in (a, b))
            same = a == b
            found += bool(b)
        else:
            same = (got.status, got.kind, first_words(got.error)) == (want.status, want.kind, first_words(want.error))
        if not same:
            wrong.append(f"{q}: got {got.data or got.error}, want {want.data or want.error}"[:600])
    assert not wrong, f"seed {SEED}: {len(wrong)} of {len(queries)} differ\n" + "\n".join(wrong[:20])
    assert found > len(queries) / 3
