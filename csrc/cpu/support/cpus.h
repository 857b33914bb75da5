// How many processors this process may use: its affinity mask, and the quota of its control group,
// which a container has instead of fewer processors.
#pragma once

#include <string>

namespace subgrad {

struct Cpus {
  int affinity = 0;    // processors of the mask; 0: not known
  double quota = 0.0;  // processors' worth of time; 0: no quota

  // Whether two threads can be at work at once, as far as is known.
  bool several() const { return affinity != 1 && (quota == 0.0 || quota >= 1.5); }
};

// As they are now. A call reads files: some 50 us.
Cpus cpus();

// The quota of the control group that `own` ("/proc/self/cgroup") names, below `mounted`
// ("/sys/fs/cgroup"), by version 2 or 1: the least of its own and those above it. 0 if there is
// none, or none that can be read.
double cpu_quota(const std::string& own, const std::string& mounted);

}  // namespace subgrad
