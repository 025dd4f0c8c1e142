// What people see: lines of facts, tables, sizes, times, ids. What comes from the network never
// drives the terminal: control characters and broken UTF-8 become '?'.
#ifndef HM_CLI_PRINT_H
#define HM_CLI_PRINT_H

#include <yyjson.h>

#include "base/base.h"

// Appends the text as it may be shown and returns its columns.
size_t cli_put_text(hm_buf *b, const char *text);
// "3.1 MB"; "17.0 ms"; "2026-11-25 12:45:05" of the local zone, "-" for 0; "4 s", "3 days".
void cli_put_size(hm_buf *b, uint64_t bytes);
void cli_put_micros(hm_buf *b, uint64_t us);
void cli_put_time(hm_buf *b, uint64_t wall_ms);
void cli_put_duration(hm_buf *b, uint64_t ms);
// The first 12 digits on a terminal, the whole id elsewhere: a beginning is taken wherever an
// asset's id is, and programs get what they can compare.
void cli_put_id(hm_buf *b, const char *id);

// ---- facts: a label and what is said about it ---------------------------------------------------

void cli_fact(const char *label, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// The buffer's text, which is freed.
void cli_fact_buf(const char *label, hm_buf *text);

// ---- tables -------------------------------------------------------------------------------------

// Rows are kept until the end, so that columns are as wide as what stands in them.
#define CLI_COLUMNS_MAX 12u
typedef struct cli_table {
    const char *heads; // "ID|NAME|SIZE>": '>' puts a column to the right
    size_t columns, cells;
    hm_buf text;       // cells as they are shown, each with a NUL
    hm_buf columns_of; // uint32_t columns of each cell
} cli_table;
void cli_table_begin(cli_table *t, const char *heads);
void cli_cell(cli_table *t, const char *text);
// The buffer's text, which is freed.
void cli_cell_buf(cli_table *t, hm_buf *text);
void cli_cell_u64(cli_table *t, uint64_t v);
// A cell of what put() writes about v.
void cli_cell_of(cli_table *t, void (*put)(hm_buf *b, uint64_t v), uint64_t v);
void cli_cell_id(cli_table *t, const char *id);
// Prints and frees it.
HM_CHECK hm_err cli_table_end(cli_table *t);

// ---- how far something is ----------------------------------------------------------------------

// On stderr: on a terminal a line that is written anew and gone at the end, elsewhere a line every
// five seconds.
typedef struct cli_progress {
    const char *what; // "block"
    uint64_t first;   // how far it was when it began
    uint64_t began_us, told_us;
} cli_progress;
cli_progress cli_progress_begin(const char *what, uint64_t first);
void cli_progress_tell(cli_progress *p, uint64_t done, uint64_t total);

// ---- JSON, leniently: an answer of a newer or older node is still shown -------------------------

const char *cli_str(yyjson_val *obj, const char *name); // "" when it is not there
uint64_t cli_u64(yyjson_val *obj, const char *name);    // 0
bool cli_true(yyjson_val *obj, const char *name);       // false

#endif
