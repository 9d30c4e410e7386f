// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/layers/kernel_function.h"
#include "kernelhub/layers/kernel_mapping.h"
#include "kernelhub/layers/kernelize.h"
#include "kernelhub/layers/replaceable.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <torch/nn/cloneable.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace kernelhub {

/// x * weight * scale + bias; the package's kernel adds 1000 (version 2 of it 2000).
class Affine : public torch::nn::Cloneable<Affine>,
               public Replaceable<Affine, at::Tensor(const at::Tensor&)> {
 public:
  std::string_view kernel_layer_name() const override { return name_; }
  explicit Affine(double scale_value = 2.0) : scale(scale_value) { reset(); }
  explicit Affine(std::string layer) : scale(2.0), name_(std::move(layer)) { reset(); }
  void reset() override {
    weight = register_parameter("weight", at::full({3}, 1.0), /*requires_grad=*/true);
    bias = register_parameter("bias", at::full({3}, 0.5), /*requires_grad=*/true);
    KERNELHUB_ATTR("scale", scale);
  }
  at::Tensor reference_forward(const at::Tensor& x) { return x * weight * scale + bias; }
  bool kernel_condition() const override { return swappable; }

  at::Tensor weight;
  at::Tensor bias;
  double scale;
  bool swappable = true;

 private:
  std::string name_ = "Affine";
};

/// A module without parameters under any layer name; its own forward returns x.
class Named : public torch::nn::Cloneable<Named>,
              public Replaceable<Named, at::Tensor(const at::Tensor&)> {
 public:
  explicit Named(std::string name) : name_(std::move(name)) {}
  std::string_view kernel_layer_name() const override { return name_; }
  void reset() override {}
  at::Tensor reference_forward(const at::Tensor& x) { return x; }

 private:
  std::string name_;
};

using PairResult = std::tuple<at::Tensor, at::Tensor>;

inline PairResult scale_pair(const at::Tensor& q, const at::Tensor& k, const at::Tensor& factor,
                             const std::optional<at::Tensor>& gate, std::int64_t times) {
  return {gate ? q * factor + *gate : q * factor, k * factor * times};
}

/// A function of two results, and the same as the forward of a module.
class Pair : public torch::nn::Cloneable<Pair>,
             public Replaceable<Pair, PairResult(at::Tensor, at::Tensor, at::Tensor,
                                                 std::optional<at::Tensor>, std::int64_t)>,
             public KernelFunctionOwner {
 public:
  KERNELHUB_KERNEL_LAYER("ScalePair")
  void reset() override {}
  PairResult reference_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& factor,
                               const std::optional<at::Tensor>& gate, std::int64_t times) {
    return scale_pair(q, k, factor, gate, times);
  }
  std::vector<Swappable*> kernel_functions() override { return {&function}; }

  KernelFunction<PairResult(at::Tensor, at::Tensor, at::Tensor, std::optional<at::Tensor>,
                            std::int64_t)>
      function{"scale_pair", scale_pair};
};

/// Two affine layers and a shift, by turns.
class Model : public torch::nn::Cloneable<Model> {
 public:
  Model() { reset(); }
  void reset() override {
    first = register_module("first", std::make_shared<Affine>(2.0));
    second = register_module("second", std::make_shared<Affine>(3.0));
    shift = register_module("shift", std::make_shared<Named>("Shift"));
  }
  at::Tensor forward(const at::Tensor& x) {
    return shift->forward(second->forward(first->forward(x)));
  }
  std::shared_ptr<Affine> first, second;
  std::shared_ptr<Named> shift;
};

inline at::Tensor sample() { return at::arange(6, at::kFloat).view({2, 3}); }

inline LayerRepository package(const std::string& layer, const std::string& name = "layer_ops") {
  return LayerRepository::local(std::string(KERNELHUB_LAYER_PACKAGES) + "/" + name, layer);
}

/// Maps each layer name to the layer of that name in the fixture package, as fallback entries.
inline KernelMapping map_layers(const std::vector<std::string>& layers,
                                const std::string& name = "layer_ops") {
  KernelMapping mapping;
  for (const std::string& layer : layers) {
    mapping[layer] = {{Device("cpu"), package(layer, name)}};
  }
  return mapping;
}

/// Maps one layer name to a layer of the package for one mode.
inline KernelMapping map_mode(const std::string& layer, Mode mode) {
  return {{layer, {{Device("cpu"), std::map<Mode, LayerRepository>{{mode, package(layer)}}}}}};
}

}  // namespace kernelhub
