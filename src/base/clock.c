/* clock.c - wall and steady time, and a clock that tests move by hand.
 *
 * RULES   C1  The steady clock never goes back while the fake one is set, moved and set again; only
 *             clock_fake_off(), which ends a test, returns to the real one.
 *         C2  A sleeper under the fake clock wakes when the clock was moved past its time, or the
 *             fake clock ends.
 * THREADS fake.on is atomic, so that the real clock costs no lock; the rest is under fake.lock, a
 *         plain pthread mutex: nothing else is ever taken while it is held. */
#include "src/base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define NS_PER_S  1000000000LL
#define NS_PER_MS 1000000LL

static struct {
    atomic_bool on;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int64_t wall_ns, mono_ns, cpu_ns; /* under lock, as is: */
    int64_t tick_ns;                  /* what a coarse look at the steady clock moves it by */
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static int64_t real_ns(clockid_t id)
{
    struct timespec ts = {0};

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* One of the fake clock's fields, or the real clock's time. */
static int64_t now(const int64_t *field, clockid_t id)
{
    int64_t ns = 0;
    bool on;

    if (!atomic_load_explicit(&fake.on, memory_order_acquire))
        return real_ns(id);
    pthread_mutex_lock(&fake.lock);
    on = atomic_load(&fake.on);
    if (on && id == CLOCK_MONOTONIC_COARSE)
        fake.mono_ns += fake.tick_ns;
    if (on)
        ns = *field;
    pthread_mutex_unlock(&fake.lock);
    return on ? ns : real_ns(id);
}

int64_t clock_now_ns(void)
{
    return now(&fake.wall_ns, CLOCK_REALTIME);
}

int64_t clock_now_ms(void)
{
    int64_t ns = clock_now_ns();

    return ns / NS_PER_MS - (ns % NS_PER_MS < 0);
}

int64_t clock_mono_ns(void)
{
    return now(&fake.mono_ns, CLOCK_MONOTONIC);
}

int64_t clock_mono_coarse_ns(void)
{
    return now(&fake.mono_ns, CLOCK_MONOTONIC_COARSE);
}

int64_t clock_process_cpu_ns(void)
{
    return now(&fake.cpu_ns, CLOCK_PROCESS_CPUTIME_ID);
}

static bool slept_by_fake_clock(int64_t mono_ns)
{
    bool reached;

    pthread_mutex_lock(&fake.lock);
    while (atomic_load(&fake.on) && fake.mono_ns < mono_ns)
        pthread_cond_wait(&fake.moved, &fake.lock);
    reached = atomic_load(&fake.on);
    pthread_mutex_unlock(&fake.lock);
    return reached;
}

void clock_sleep_until_mono_ns(int64_t mono_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(mono_ns / NS_PER_S), .tv_nsec = mono_ns % NS_PER_S};

    if (atomic_load_explicit(&fake.on, memory_order_acquire)) {
        slept_by_fake_clock(mono_ns); /* C2 */
        return;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        continue;
}

void clock_fake_set(int64_t wall_ms)
{
    pthread_mutex_lock(&fake.lock);
    if (!atomic_load(&fake.on)) {
        fake.mono_ns = real_ns(CLOCK_MONOTONIC);
        fake.cpu_ns = real_ns(CLOCK_PROCESS_CPUTIME_ID);
    } /* else it goes on from where it stood: C1 */
    fake.wall_ns = wall_ms * NS_PER_MS;
    atomic_store_explicit(&fake.on, true, memory_order_release);
    pthread_cond_broadcast(&fake.moved);
    pthread_mutex_unlock(&fake.lock);
}

void clock_fake_advance(int64_t ms)
{
    pthread_mutex_lock(&fake.lock);
    fake.wall_ns += ms * NS_PER_MS;
    fake.mono_ns += ms > 0 ? ms * NS_PER_MS : 0; /* C1 */
    pthread_cond_broadcast(&fake.moved);
    pthread_mutex_unlock(&fake.lock);
}

void clock_fake_tick(int64_t ms)
{
    pthread_mutex_lock(&fake.lock);
    fake.tick_ns = ms * NS_PER_MS;
    pthread_mutex_unlock(&fake.lock);
}

void clock_fake_off(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.tick_ns = 0;
    atomic_store_explicit(&fake.on, false, memory_order_release);
    pthread_cond_broadcast(&fake.moved);
    pthread_mutex_unlock(&fake.lock);
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar, and back; after Howard
 * Hinnant, "chrono-Compatible Low-Level Date Algorithms": years start in March, so that the leap day
 * is the last of its year, and 400 years have 146097 days. */
static int64_t days_of_date(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static void date_of_days(int64_t days, int *year, int *month, int *day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;

    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

size_t clock_format_rfc3339(char to[40], int64_t wall_ns)
{
    int64_t s = wall_ns / NS_PER_S - (wall_ns % NS_PER_S < 0);
    int64_t ns = (wall_ns % NS_PER_S + NS_PER_S) % NS_PER_S;
    int64_t days = s / 86400 - (s % 86400 < 0);
    int in_day = (int)(s - days * 86400);
    int year, month, day, n;

    date_of_days(days, &year, &month, &day);
    n = snprintf(to, 40, "%04d-%02d-%02dT%02d:%02d:%02d", year, month, day, in_day / 3600,
                 in_day / 60 % 60, in_day % 60);
    if (ns) {
        n += snprintf(to + n, 40 - (size_t)n, ".%09d", (int)ns);
        while (to[n - 1] == '0')
            n--;
    }
    to[n++] = 'Z';
    to[n] = '\0';
    return (size_t)n;
}

/* Takes exactly `n` digits and then, unless it is 0, the character `then`. */
static bool take_number(struct nx_slice *s, size_t n, char then, int *out)
{
    int v = 0;

    if (s->len < n + (then != 0))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->ptr[i] < '0' || s->ptr[i] > '9')
            return false;
        v = v * 10 + (s->ptr[i] - '0');
    }
    if (then && s->ptr[n] != then)
        return false;
    *out = v;
    n += then != 0;
    *s = nx_slice_of(s->ptr + n, s->len - n);
    return true;
}

/* ".5" or nothing; digits beyond the milliseconds are checked and dropped. */
static bool take_fraction(struct nx_slice *s, int *ms)
{
    int place = 100;
    size_t i = 1;

    *ms = 0;
    if (s->len == 0 || (*s->ptr != '.' && *s->ptr != ','))
        return true;
    for (; i < s->len && s->ptr[i] >= '0' && s->ptr[i] <= '9'; i++, place /= 10)
        *ms += (s->ptr[i] - '0') * place;
    *s = nx_slice_of(s->ptr + i, s->len - i);
    return i > 1;
}

/* "Z", "+02:00"; nothing may follow. */
static bool take_zone(struct nx_slice s, int *minutes_east)
{
    int hours, minutes;
    char sign;

    *minutes_east = 0;
    if (nx_slice_is(s, "Z"))
        return true;
    if (s.len != 6 || (*s.ptr != '+' && *s.ptr != '-'))
        return false;
    sign = *s.ptr;
    s = nx_slice_of(s.ptr + 1, s.len - 1);
    if (!take_number(&s, 2, ':', &hours) || !take_number(&s, 2, 0, &minutes) || hours > 24 ||
        minutes > 60)
        return false;
    *minutes_east = (sign == '-' ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap);
}

bool clock_parse_rfc3339(struct nx_slice s, int64_t *wall_ms)
{
    int year, month, day, hour, minute, second, ms, east;

    if (!take_number(&s, 4, '-', &year) || !take_number(&s, 2, '-', &month) ||
        !take_number(&s, 2, 'T', &day) || !take_number(&s, 2, ':', &hour) ||
        !take_number(&s, 2, ':', &minute) || !take_number(&s, 2, 0, &second) ||
        !take_fraction(&s, &ms) || !take_zone(s, &east))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
        minute > 59 || second > 59)
        return false;
    *wall_ms = ((days_of_date(year, month, day) * 24 + hour) * 60 + minute - east) * 60000 +
               second * 1000 + ms;
    return true;
}
