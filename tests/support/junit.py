"""Adds up a JUnit file for script/test: names what failed or was skipped, then "PASSED FAILED SKIPPED".

A test of ctest is a cmocka program with many tests in it: those are counted, by the lines cmocka
prints. A program that failed with none of its tests failing (it crashed, or hung) counts as one
failure. usage: junit.py FILE EXIT-STATUS-OF-THE-RUNNER
"""

import re
import sys
import xml.etree.ElementTree as ET

CMOCKA = re.compile(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (\S.*)$", re.M)
SUMMARY = re.compile(r"^\d+ test\(s\)")


def cmocka_counts(text):
    """(passed, failed names, skipped) of one cmocka program's output."""
    passed, failed, skipped = 0, [], 0
    for word, name in CMOCKA.findall(text or ""):
        if SUMMARY.match(name) or " test(s)" in name:
            continue  # the program's own summary
        if word == "OK":
            passed += 1
        elif word == "SKIPPED":
            skipped += 1
        elif name not in failed:  # cmocka lists failures twice
            failed.append(name)
    return passed, failed, skipped


def main():
    path, status = sys.argv[1], int(sys.argv[2])
    passed = failed = skipped = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        name = "::".join(x for x in (case.get("classname"), case.get("name")) if x)
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        left_out = case.find("skipped")
        out = case.findtext("system-out") or ""
        ok_in, bad_in, skipped_in = cmocka_counts(out)
        if bad is not None or case.get("status") == "fail":
            passed += ok_in
            skipped += skipped_in
            failed += max(len(bad_in), 1)
            print(f"FAILED: {name}: {', '.join(bad_in) or (bad.get('message') if bad is not None else '') or 'it did not end well'}")
            detail = (bad.text if bad is not None else "") or out
            print("\n".join("    " + line for line in detail.strip().splitlines()[-60:]))
        elif left_out is not None or case.get("status") in ("notrun", "disabled"):
            skipped += 1
            print(f"skipped: {name}: {left_out.get('message') if left_out is not None else 'not run'}")
        else:
            passed += ok_in or (0 if skipped_in else 1)
            skipped += skipped_in
            for line in out.splitlines():
                if line.startswith(("skipped:", "SKIP")):
                    print(line)
    if status != 0 and failed == 0:
        failed = 1
        print(f"FAILED: the runner ended with status {status}")
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
