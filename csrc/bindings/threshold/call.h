// One thresholded step, for the function and the optimizer alike: groups of tensors are added, then
// all is checked, and every tensor is stepped where it is.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "bindings/clip/options.h"
#include "bindings/clip/squares.h"
#include "bindings/dense/sgd_params.h"
#include "bindings/threshold/plan.h"
#include "cpu/select/peers.h"

namespace subgrad {

// How much of a scope is kept, as the user says it: `Selector` is what that means for so many
// elements.
struct Choice {
  Selector::Kind kind;
  bool reuses = false;  // the last step's threshold, while a sample says that it is one
  std::optional<double> threshold, density;
  std::optional<std::int64_t> k;

  // `shared`: other processes have a part of the scope; a number is then met exactly. Throws
  // ValueError where more are to be kept than there are.
  Selector for_scope(std::int64_t elements, std::optional<double> last, bool shared) const;
};

// What the step did in one place. Lists on the host; on a device arrays there, which nothing has
// waited for.
struct PlaceReport {
  bool on_host;
  py::object kept;        // by tensor of this place
  py::object thresholds;  // by scope of this place: the least magnitude that is kept
  py::object energies;    // two a tensor, of what is kept and of the rest; None unless measured
};

struct ThresholdReport {
  struct Member {
    int place, tensor, scope;  // numbers within the place
  };
  std::vector<PlaceReport> places;
  std::vector<Member> members;      // by tensor
  std::vector<std::int64_t> sizes;  // by tensor
  py::object selections;            // by tensor (indices, values); None unless asked for
  std::optional<double> grad_norm;  // of all gradients, where somebody asked
  // By group and scope: the threshold that a reusing one goes on with, None for an estimate.
  std::vector<std::vector<std::optional<double>>> following;
};

class ThresholdCall {
 public:
  // Null `clip`: gradients are judged as the terms alone say.
  ThresholdCall(int index_bytes, bool measure, const GivenOptions* clip)
      : options_{index_bytes, measure}, clip_(clip != nullptr ? clip->read() : ClipOptions()) {}

  // Adds a group: arrays or lists of them, as many residuals and momentum buffers as parameters or
  // None. `lr`: an array of one float32 on a device, read there in place of the number, or None.
  // `first`, `fresh`: by tensor, whether momentum or residual hold nothing yet. `last`: by scope,
  // the thresholds to be reused. `peers`: of a group that is one scope, the processes that hold it
  // together, or null.
  void add(const py::object& params, const py::object& grads, const py::object& residuals,
           const py::object& momentum_buffers, const SgdParams& hyper, const py::object& lr,
           bool momentum_correction, bool momentum_masking, const Choice& choice, bool together,
           const std::vector<bool>& first, const std::vector<bool>& fresh,
           const std::vector<std::optional<double>>& last, const Peers* peers);

  // What its gradients' sums of squares are, by tensor: clip/squares.h. Throws what run() does.
  py::array_t<double> squares();

  // Takes the step. `threshold`: an array of one float64 on a device, read there in place of the
  // choices', or None. `capacity`: on a device, room for so many entries of each tensor.
  // `announced`: the torch tensors that autograd is told of; all that are written where it is None.
  //
  // `then`: what is put into dicts of strings once the step is taken: (dict, key, value).
  // `memories`: by group, none or for each scope the dict that keeps its "next_threshold".
  // `thresholds`: a list that is filled with those of the first group, or None. On the
  // host no code of Python's runs between the step and these, so that no interrupt can come in
  // between; but other processes that hold a scope are asked by code of Python's, before anything
  // is applied. A step that its gradients stop does none of all this, and nothing is kept.
  //
  // `squares`: None, or what squares() returned in each of several processes, which is then taken
  // for what the gradients' sums are.
  ThresholdReport run(const py::object& threshold, std::optional<std::int64_t> capacity,
                      const py::object& announced,
                      const std::vector<std::tuple<py::dict, py::str, py::object>>& then,
                      const std::vector<std::vector<py::dict>>& memories,
                      const py::object& thresholds, const py::object& squares);

 private:
  struct Group {
    SgdParams hyper;
    py::object lr;
    bool momentum_correction, momentum_masking;
    Choice choice;
    std::vector<std::optional<double>> last;
    std::size_t first_scope, scopes;
    std::optional<Peers> peers;
  };
  struct Tensor {
    py::object param, grad, residual, momentum;
    std::size_t group, scope;
    bool first, fresh;
  };
  struct Part;  // what is in one place

  void check_scopes() const;
  std::vector<Part> split();
  const Peers* peers_of(std::size_t scope) const;
  std::vector<Gradient> gradients_of(const std::vector<Part>& parts) const;
  Part& part_of(std::vector<Part>& parts, std::size_t tensor) const;
  int group_in(Part& part, std::size_t group, std::size_t tensor) const;
  int scope_in(Part& part, const Tensor& tensor) const;
  std::vector<DenseGroup> dense_groups() const;
  Clipping judge(const std::vector<Part>& parts, const py::object& squares) const;
  void announce(const py::object& announced) const;
  void remember(const std::vector<Part>& parts, const ThresholdReport& report,
                const std::vector<std::vector<py::dict>>& memories) const;
  void run_on_host(Part& part, const Clipping& clipping, ThresholdReport& report) const;
  void keep_nothing(Part& part) const;
  PlaceReport report_of_host(const Part& part, py::list& selections) const;
  void begin_on_device(Part& part, const py::object& threshold,
                       std::optional<std::int64_t> capacity) const;
  PlaceReport finish_on_device(Part& part, std::optional<std::int64_t> capacity,
                               py::list& selections) const;

  ThresholdOptions options_;
  ClipOptions clip_;
  ThresholdPlan plan_;
  bool sealed_ = false;
  std::vector<Group> groups_;
  std::vector<Tensor> tensors_;
  std::vector<std::int64_t> scope_sizes_;
  std::vector<std::size_t> scope_groups_;
};

}  // namespace subgrad
