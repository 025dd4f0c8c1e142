// base: what every layer stands on. Read in this order.
#ifndef HM_BASE_BASE_H
#define HM_BASE_BASE_H

#include "base/err.h"    // error codes, detail line, assertions
#include "base/bytes.h"  // byte views and buffers, hex, files
#include "base/wire.h"   // canonical codec
#include "base/log.h"    // structured log
#include "base/clock.h"  // time behind an interface
#include "base/random.h" // random bytes behind an interface, seeded generator
#include "base/arena.h"  // many small allocations, freed at once
#include "base/pool.h"   // equal objects taken at start
#include "base/list.h"   // intrusive list
#include "base/map.h"    // hash map with fixed-length keys
#include "base/heap.h"   // timers
#include "base/bucket.h" // so many a second
#include "base/wal.h"    // write-ahead log of small records

#endif
