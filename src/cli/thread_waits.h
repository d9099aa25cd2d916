#pragma once

namespace candela::cli {

/// To be called before anything else: starts the program anew (same process, same arguments) with
/// GOMP_SPINCOUNT set, unless the environment says how OpenMP's threads are to wait (GOMP_SPINCOUNT or
/// OMP_WAIT_POLICY). Returns if there is nothing to do, or if the system does not allow it.
///
/// GCC's OpenMP lets a thread that waits for the next parallel region spin for some milliseconds before it
/// sleeps. Where other programs want the cores too, that is the time of the very thread that it waits for:
/// training is then several times slower. To sleep at once costs a wake-up in each of the many short regions
/// of a small model. Some ten microseconds of spinning get nearly the best of both. The runtime reads the
/// variable when it is loaded, before main().
void shorten_thread_waits(char** arguments);

}  // namespace candela::cli
