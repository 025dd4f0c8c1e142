// What both tests of the Simplex core share: one world at a time, and its end. For tests with
// cmocka; include its headers first.
#ifndef SIMPLEX_WORLD_H
#define SIMPLEX_WORLD_H

#include "../sim/sim_internal.h"

static sim *sim_world;

// Fails the test when an invariant did not hold.
static void end(sim *s)
{
    sim_report r;
    sim_get_report(s, &r);
    if (r.failed)
        fail_msg("%s: %s", r.invariant, r.detail);
    sim_free(s);
}

static int clean_up(void **state)
{
    (void)state;
    if (sim_current() != NULL)
        sim_free(sim_world); // a test failed in the middle
    return 0;
}
#define TEST(f) cmocka_unit_test_teardown(f, clean_up)

#endif
