#include "cli/print.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

#include "base/clock.h"

#define LABEL_COLUMNS 14
#define ID_SHORT 12
#define TELL_TTY_US 100000u
#define TELL_US 5000000u

// ---- text ---------------------------------------------------------------------------------------

// The next character of UTF-8 text: its bytes, 0 when they are not well-formed (RFC 3629).
static size_t next_char(const unsigned char *p, uint32_t *out)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (n == 0 || (n > 1 && c < least[n]) || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *out = c;
    return n;
}

// Controls (C0, C1, DEL) and what turns the direction of writing around (Unicode TR36, 3.8).
static bool harmless(uint32_t c)
{
    return c >= 0x20 && (c < 0x7f || c >= 0xa0) && c != 0x61c && (c < 0x200e || c > 0x200f) &&
           (c < 0x2028 || c > 0x202e) && (c < 0x2066 || c > 0x2069);
}

size_t cli_put_text(hm_buf *b, const char *text)
{
    size_t columns = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        uint32_t c;
        size_t n = next_char(p, &c);
        if (n && harmless(c)) {
            int w = c < 0x7f ? 1 : wcwidth((wchar_t)c);
            hm_buf_append(b, p, n);
            columns += w >= 0 ? (size_t)w : 1;
        } else {
            hm_buf_puts(b, "?");
            columns++;
        }
        p += n ? n : 1;
    }
    return columns;
}

void cli_put_size(hm_buf *b, uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    double v = (double)bytes / 1000;
    size_t i = 0;
    if (bytes < 1000) {
        hm_buf_printf(b, "%llu B", (unsigned long long)bytes);
        return;
    }
    for (; v >= 999.95 && i < 5; i++)
        v /= 1000;
    hm_buf_printf(b, "%.1f %s", v, units[i]);
}

void cli_put_micros(hm_buf *b, uint64_t us)
{
    if (us < 1000)
        hm_buf_printf(b, "%llu us", (unsigned long long)us);
    else if (us < 1000000)
        hm_buf_printf(b, "%.1f ms", (double)us / 1e3);
    else
        hm_buf_printf(b, "%.2f s", (double)us / 1e6);
}

void cli_put_duration(hm_buf *b, uint64_t ms)
{
    uint64_t s = ms / 1000;
    if (s < 120)
        hm_buf_printf(b, "%llu s", (unsigned long long)s);
    else if (s < 7200)
        hm_buf_printf(b, "%llu min", (unsigned long long)s / 60);
    else if (s < 2 * 86400)
        hm_buf_printf(b, "%llu h", (unsigned long long)s / 3600);
    else
        hm_buf_printf(b, "%llu days", (unsigned long long)s / 86400);
}

void cli_put_time(hm_buf *b, uint64_t wall_ms)
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    char text[32];
    if (wall_ms && localtime_r(&t, &tm) && strftime(text, sizeof(text), "%F %T", &tm))
        hm_buf_puts(b, text);
    else
        hm_buf_puts(b, "-");
}

void cli_put_id(hm_buf *b, const char *id)
{
    size_t len = strlen(id);
    hm_buf part = {0};
    hm_buf_append(&part, id, isatty(STDOUT_FILENO) && len > ID_SHORT ? ID_SHORT : len);
    cli_put_text(b, hm_buf_cstr(&part));
    hm_buf_free(&part);
}

// ---- facts --------------------------------------------------------------------------------------

static void print_fact(const char *label, const char *text)
{
    hm_buf b = {0};
    cli_put_text(&b, text);
    printf("%-*s %s\n", LABEL_COLUMNS - 1, label, hm_buf_cstr(&b));
    hm_buf_free(&b);
}

void cli_fact(const char *label, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    print_fact(label, text);
}

void cli_fact_buf(const char *label, hm_buf *text)
{
    print_fact(label, hm_buf_cstr(text));
    hm_buf_free(text);
}

// ---- tables -------------------------------------------------------------------------------------

void cli_table_begin(cli_table *t, const char *heads)
{
    *t = (cli_table){.heads = heads, .columns = 1};
    for (const char *p = heads; *p; p++)
        t->columns += *p == '|';
    hm_assert(t->columns <= CLI_COLUMNS_MAX);
}

void cli_cell(cli_table *t, const char *text)
{
    uint32_t columns = (uint32_t)cli_put_text(&t->text, text);
    hm_buf_append(&t->text, "", 1);
    hm_buf_append(&t->columns_of, &columns, sizeof(columns));
    t->cells++;
}

void cli_cell_buf(cli_table *t, hm_buf *text)
{
    cli_cell(t, hm_buf_cstr(text));
    hm_buf_free(text);
}

void cli_cell_u64(cli_table *t, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    cli_cell(t, text);
}

void cli_cell_of(cli_table *t, void (*put)(hm_buf *b, uint64_t v), uint64_t v)
{
    hm_buf b = {0};
    put(&b, v);
    cli_cell_buf(t, &b);
}

void cli_cell_id(cli_table *t, const char *id)
{
    hm_buf b = {0};
    cli_put_id(&b, id);
    cli_cell_buf(t, &b);
}

static void print_cell(const char *text, size_t columns, size_t width, bool right, bool last)
{
    int pad = (int)(width > columns ? width - columns : 0);
    printf("%*s%s", right ? pad : 0, "", text);
    if (!last)
        printf("%*s", (right ? 0 : pad) + 2, "");
    else
        putchar('\n');
}

hm_err cli_table_end(cli_table *t)
{
    size_t width[CLI_COLUMNS_MAX] = {0};
    char heads[CLI_COLUMNS_MAX][32];
    bool right[CLI_COLUMNS_MAX];
    const char *p = t->heads;
    hm_err err = hm_buf_status(&t->text);
    if (err == HM_OK)
        err = hm_buf_status(&t->columns_of);
    for (size_t i = 0; i < t->columns; i++) {
        size_t n = strcspn(p, "|");
        hm_assert(n < sizeof(heads[i]));
        right[i] = n && p[n - 1] == '>';
        snprintf(heads[i], sizeof(heads[i]), "%.*s", (int)(right[i] ? n - 1 : n), p);
        width[i] = strlen(heads[i]);
        p += n + (p[n] == '|');
    }
    const uint32_t *columns = (const uint32_t *)(const void *)t->columns_of.ptr;
    for (size_t i = 0; err == HM_OK && i < t->cells; i++)
        if (columns[i] > width[i % t->columns])
            width[i % t->columns] = columns[i];
    for (size_t i = 0; err == HM_OK && i < t->columns; i++)
        print_cell(heads[i], strlen(heads[i]), width[i], right[i], i + 1 == t->columns);
    p = (const char *)t->text.ptr;
    for (size_t i = 0; err == HM_OK && i < t->cells; i++) {
        size_t at = i % t->columns;
        print_cell(p, columns[i], width[at], right[at], at + 1 == t->columns);
        p += strlen(p) + 1;
    }
    hm_buf_free(&t->text);
    hm_buf_free(&t->columns_of);
    return err;
}

// ---- how far something is -----------------------------------------------------------------------

cli_progress cli_progress_begin(const char *what, uint64_t first)
{
    uint64_t now = hm_clock_mono_us(&hm_clock_system);
    return (cli_progress){what, first, now, now};
}

void cli_progress_tell(cli_progress *p, uint64_t done, uint64_t total)
{
    bool tty = isatty(STDERR_FILENO) == 1;
    uint64_t now = hm_clock_mono_us(&hm_clock_system);
    if (now - p->told_us < (tty ? TELL_TTY_US : TELL_US) && !(tty && done == total))
        return;
    p->told_us = now;
    if (done == total && tty)
        fputs("\r\033[K", stderr);
    else
        fprintf(stderr,
                tty ? "\r\033[K%s %llu of %llu, %.0f a second" : "%s %llu of %llu, %.0f a second\n",
                p->what, (unsigned long long)done, (unsigned long long)total,
                (double)(done - p->first) * 1e6 / (double)(now - p->began_us + 1));
    fflush(stderr);
}

// ---- JSON ---------------------------------------------------------------------------------------

const char *cli_str(yyjson_val *obj, const char *name)
{
    const char *s = yyjson_get_str(yyjson_obj_get(obj, name));
    return s ? s : "";
}

uint64_t cli_u64(yyjson_val *obj, const char *name)
{
    return yyjson_get_uint(yyjson_obj_get(obj, name));
}

bool cli_true(yyjson_val *obj, const char *name)
{
    return yyjson_get_bool(yyjson_obj_get(obj, name));
}
