#include "bindings/clip/gradients.h"

#include "bindings/border/written_memory.h"

namespace subgrad {

GradientList::GradientList(const py::object& argument, const char* name, bool written)
    : arrays_(array_list(argument, name)) {
  const std::size_t count = arrays_.items.size();
  std::vector<Where> wheres;
  for (std::size_t i = 0; i < count; ++i) {
    wheres.push_back(arrays_.where(name, i));
    const ArrayView view = view_array(arrays_.items[i], wheres[i]);
    extents_.emplace_back(view);
    const Extents& x = extents_[i];
    if (written) require_writable(view, x, wheres[i]);
    std::unique_ptr<const Layout> layout;
    if (!x.dense() || !x.aligned()) {
      layout = std::make_unique<const Layout>(x.ndim(), x.shape.data(), x.strides.data(),
                                              x.strides.data(), x.strides.data());
    }
    gradients_.push_back({x.data, x.dtype, x.size, layout.get()});
    layouts_.push_back(std::move(layout));
    elements_ += x.size;
  }
  if (!written) return;
  WrittenMemory memory;
  for (std::size_t i = 0; i < count; ++i) memory.add(extents_[i], wheres[i]);
  memory.seal();
}

void GradientList::announce(const std::vector<GradientStage>& stages) const {
  py::list changed;
  for (std::size_t i = 0; i < arrays_.items.size(); ++i) {
    if (!stages.empty() && stages[i].changes_nothing()) continue;
    if (has_version(arrays_.items[i])) changed.append(arrays_.items[i]);
  }
  if (changed.size() > 0) increment_versions(changed);
}

}  // namespace subgrad
