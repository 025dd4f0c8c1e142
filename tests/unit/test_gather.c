// Work for many requests: when it is done.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server/gather.h"

typedef struct world {
    uv_loop_t loop;
    uv_prepare_t turn; // what the others of the loop do
    gather gather;
    uint64_t progress;
    unsigned turns, moving; // turns so far, and how many of them have something to read or write
    unsigned worked, worked_turn;
    bool closed;
} world;

static uint64_t progress(void *ctx)
{
    return ((world *)ctx)->progress;
}

static void work(void *ctx)
{
    world *w = ctx;
    w->worked++;
    w->worked_turn = w->turns;
}

static void on_turn(uv_prepare_t *h)
{
    world *w = h->data;
    w->progress += w->turns++ < w->moving;
}

static void on_closed(void *ctx)
{
    ((world *)ctx)->closed = true;
}

static int setup(void **state)
{
    static world w;
    w = (world){0};
    uv_loop_init(&w.loop);
    uv_prepare_init(&w.loop, &w.turn);
    w.turn.data = &w;
    uv_prepare_start(&w.turn, on_turn);
    gather_open(&w.gather, &w.loop, progress, work, &w);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    gather_close(&w->gather, on_closed);
    uv_close((uv_handle_t *)&w->turn, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->closed);
    return uv_loop_close(&w->loop);
}

// A turn that blocks would never end here: nothing else is on the loop.
static void until_worked(world *w)
{
    while (w->worked == 0)
        uv_run(&w->loop, UV_RUN_ONCE);
}

static void test_waits_for_the_rest(void **state)
{
    world *w = *state;
    w->moving = 5;
    gather_want(&w->gather);
    until_worked(w);
    assert_int_equal(w->worked_turn, 6); // the first in which nothing moved
}

static void test_at_once(void **state)
{
    world *w = *state;
    gather_want(&w->gather);
    until_worked(w);
    assert_int_equal(w->worked_turn, 1);
}

static void test_not_for_ever(void **state)
{
    world *w = *state;
    w->moving = UINT32_MAX;
    gather_want(&w->gather);
    until_worked(w);
    assert_int_equal(w->worked_turn, GATHER_TURNS_MAX);
    w->worked = w->turns = 0;
    gather_want(&w->gather);
    until_worked(w);
    assert_int_equal(w->worked_turn, GATHER_TURNS_MAX);
}

static void test_once(void **state)
{
    world *w = *state;
    for (int i = 0; i < 5; i++)
        uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->worked, 0);
    gather_want(&w->gather);
    gather_want(&w->gather);
    for (int i = 0; i < 5; i++)
        uv_run(&w->loop, UV_RUN_NOWAIT);
    assert_int_equal(w->worked, 1);
    gather_want(&w->gather);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_waits_for_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(test_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
