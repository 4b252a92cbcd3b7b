/* quiet.h - tests that make things go wrong by the hundred don't show what is logged of it. */
#pragma once

/* Nothing is shown from here on, until log_capture(NULL, NULL). */
void quiet_log(void);

/* For cmocka to call before a test: that, the real clock, and memory to be had, whatever the last test left. */
int quiet_setup(void **state);
