#pragma once

#include <candela/core/parallel.h>

namespace candela {

/// Calls piece(i, i + 1) for every i in [0, pieces), on `threads` threads where the system grants them, the
/// calling thread among them; each takes the next piece when it is done with its last. Returns when all have
/// ended. `piece` must not throw. One call at a time: the caller holds the TeamLock.
void run_on_team(int threads, int pieces, RangeFunction piece);

/// Whether the calling thread is inside a piece, or in a parallel region that is not ours.
bool inside_team();

/// What the environment asks for (OMP_NUM_THREADS), or 0.
int team_size_from_environment();

/// To be called by the thread that has the team: libraries that ask OpenMP get the same number of threads.
void announce_team_size(int size);

}  // namespace candela
