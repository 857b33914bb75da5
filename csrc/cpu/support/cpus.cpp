#include "cpu/support/cpus.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#if defined(__linux__)
#include <sched.h>
#endif

namespace subgrad {
namespace {

// A quota of some microseconds in a period: "max" and -1 stand for none.
double share_of(const std::string& quota, const std::string& period) {
  std::istringstream text(quota + " " + period);
  double time = 0.0, of = 0.0;
  return text >> time >> of && time > 0.0 && of > 0.0 ? time / of : 0.0;
}

std::string word_of(const std::string& file) {
  std::ifstream stream(file);
  std::string word;
  stream >> word;
  return word;
}

// Version 2 has both in one file, version 1 in two.
double quota_at(const std::string& group, bool unified) {
  if (!unified) {
    return share_of(word_of(group + "/cpu.cfs_quota_us"), word_of(group + "/cpu.cfs_period_us"));
  }
  std::ifstream stream(group + "/cpu.max");
  std::string quota, period;
  stream >> quota >> period;
  return share_of(quota, period);
}

double least(double a, double b) { return a == 0.0 || b == 0.0 ? a + b : std::min(a, b); }

// A container may see its group's path as the host has it, below a mount that begins with the group
// itself: so the mount's own files count always.
double quota_along(const std::string& mounted, std::string path, bool unified) {
  double quota = quota_at(mounted, unified);
  while (path.size() > 1) {
    quota = least(quota, quota_at(mounted + path, unified));
    path.erase(path.rfind('/'));
  }
  return quota;
}

// Whether a list "cpu,cpuacct" names the controller.
bool has_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

double cpu_quota(const std::string& own, const std::string& mounted) {
  std::ifstream stream(own);
  std::string line;
  double quota = 0.0;
  while (std::getline(stream, line)) {  // hierarchy:controllers:path
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line[second + 1] != '/') continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      quota = least(quota, quota_along(mounted, path, true));
    } else if (has_cpu(controllers)) {
      for (const std::string& name : {controllers, std::string("cpu")}) {
        quota = least(quota, quota_along(mounted + "/" + name, path, false));
      }
    }
  }
  return quota;
}

Cpus cpus() {
  Cpus found;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) found.affinity = CPU_COUNT(&set);
  found.quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
#endif
  return found;
}

}  // namespace subgrad
