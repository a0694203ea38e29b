//! Models, energies, monitors and diagnostics: no panic, whatever the shapes, options and bits; what
//! is refused is refused for a reason; a row of a batch gives what it gives alone; backends agree.
#![no_main]

use gibbsite::{
    Backend, Domain, Energy, Isa, ReluEnergy, Rows, RowsMut,
    diagnostics::{Draws, RunningDiagnostics},
    monitor,
    random::{Stream, Streams},
    stein::{Gram, Statistic, SteinKernel},
    teacher::{NAMES, Teacher},
};
use gibbsite_fuzz::{Amount, Class, Float, Numbers, Size, accepted, finite, normalise, same};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    double: bool,
    view: [Size; 3],
    n: u8,
    d: u8,
    m: u8,
    bias: bool,
    sphere: bool,
    base_scale: Option<Amount>,
    beta: Option<Amount>,
    isa: u8,
    parameters: Class,
    points: Class,
    weights: Class,
    pad: u8,
    /// Added to the lengths of arrays that are passed along.
    surplus: [i8; 4],
    radius: Amount,
    numbers: &'a [u8],
}

/// A view is made exactly if it lies within its slice, as integers that do not overflow say.
fn views(rows: usize, cols: usize, stride: usize) {
    let mut data = [1_u8; 64];
    let (n, d, step) = (rows as u128, cols as u128, stride as u128);
    let end = if n == 0 { 0 } else { (n - 1) * step + d };
    let fits = d <= step && end <= 64;
    let strided = Rows::with_stride(&data, rows, cols, stride);
    assert_eq!(strided.is_ok(), fits, "{rows} {cols} {stride}");
    if let Ok(view) = strided
        && rows > 0
    {
        assert_eq!(view.row(0).len() + view.row(rows - 1).len(), 2 * cols);
        assert_eq!(view.range(rows - 1, 1).columns(cols, 0).row(0), []);
    }
    assert_eq!(RowsMut::with_stride(&mut data, rows, cols, stride).is_ok(), fits);
    assert_eq!(Rows::new(&data, rows, cols).is_ok(), n * d == 64);
    assert_eq!(RowsMut::new(&mut data, rows, cols).is_ok(), n * d == 64);
}

fn model<T: Float>(input: &Input<'_>, numbers: &mut Numbers<'_>) -> Option<ReluEnergy<T>> {
    let (d, m) = (usize::from(input.d % 25), usize::from(input.m % 121));
    let mut array = |len: usize| numbers.array::<T>(input.parameters, len);
    let (theta, w, b) = (array(m * d), array(longer(m, input.surplus[0])), array(m));
    let model = ReluEnergy::new(Rows::new(&theta, m, d).expect("sized for it"), &w);
    let usable = m * d > 0 && w.len() == m && finite(&theta) && finite(&w);
    assert_eq!(model.is_ok(), usable, "{m} {d}");
    let mut model = accepted(model)?;
    if input.bias {
        let biased = model.with_bias(&b);
        assert_eq!(biased.is_ok(), finite(&b));
        model = accepted(biased)?;
    }
    if let Some(scale) = input.base_scale {
        model = accepted(model.with_base_scale(T::from_f64(scale.value())))?;
    }
    if let Some(beta) = input.beta {
        model = accepted(model.with_beta(T::from_f64(beta.value())))?;
    }
    if input.sphere {
        model = accepted(model.with_domain(Domain::Sphere))?;
    }
    Some(model)
}

fn longer(len: usize, surplus: i8) -> usize {
    // Of the right length in most inputs.
    len.saturating_add_signed((surplus / 120).into())
}

/// Energy, potential and score.
type Values<T> = [Vec<T>; 3];

fn evaluate<T: Float>(model: &ReluEnergy<T>, x: Rows<'_, T>) -> Option<Values<T>> {
    let (n, d) = (x.rows(), x.cols());
    let zeros = |len| vec![T::from_f64(0.0); len];
    let (mut energy, mut potential, mut score) = (zeros(n), zeros(n), zeros(n * d));
    accepted(model.energy(x, &mut energy))?;
    let rows = RowsMut::new(&mut score, n, d).expect("sized for it");
    accepted(model.potential_score(x, Some(&mut potential), Some(rows)))?;
    Some([energy, potential, score])
}

fn evaluations<T: Float>(input: &Input<'_>, model: &ReluEnergy<T>, x: Rows<'_, T>) {
    let Some(values) = evaluate(model, x) else { return };
    let d = x.cols();
    let tame = input.parameters == Class::Tame && input.points == Class::Tame;
    if tame && input.base_scale.is_none() && input.beta.is_none() {
        assert!(values.iter().all(|values| finite(values)));
    }
    for i in 0..x.rows() {
        let [energy, potential, score] = evaluate(model, x.range(i, 1)).expect("as in the batch");
        assert!(same(&energy, &values[0][i..=i]) && same(&potential, &values[1][i..=i]));
        assert!(same(&score, &values[2][i * d..][..d]), "row {i}");
    }
    let isa = Isa::ALL[usize::from(input.isa) % Isa::ALL.len()];
    let forced = model.clone().with_isa(isa).with_backend(Backend::Fused);
    for (got, want) in evaluate(&forced, x).expect("as before").iter().zip(&values) {
        assert!(same(got, want), "{isa}");
    }
    let faer = evaluate(&model.clone().with_backend(Backend::Faer), x).expect("as before");
    if tame && T::NAME == "f64" && !input.sphere {
        // Sums of multiples of 2^-15 below 2^20: no order of additions rounds.
        assert!(faer[0] == values[0], "{:?} by faer, {:?} by us", faer[0], values[0]);
        if input.base_scale.is_none() && input.beta.is_none() {
            assert!(faer[2] == values[2], "{:?} by faer, {:?} by us", faer[2], values[2]);
        }
    }
}

fn gradients<T: Float>(
    input: &Input<'_>,
    numbers: &mut Numbers<'_>,
    model: &ReluEnergy<T>,
    x: Rows<'_, T>,
) {
    let (n, d) = (x.rows(), x.cols());
    let r = numbers.array::<T>(input.weights, longer(n, input.surplus[1]));
    let v = numbers.array::<T>(input.weights, n * d);
    let v = Rows::new(&v, n, d).expect("sized for it");
    let mut grad = model.zero_grad();
    let result = model.param_grad(x, Some(&r), &mut grad);
    assert_eq!(result.is_ok(), r.len() == n && d == model.dim());
    accepted(result);
    let mut faer = model.zero_grad();
    accepted(model.clone().with_backend(Backend::Faer).param_grad(x, None, &mut faer));
    accepted(model.param_grad(x, None, &mut grad));
    let tame = input.parameters == Class::Tame && input.points == Class::Tame;
    if tame && T::NAME == "f64" && !input.sphere {
        assert!(faer == grad, "{faer:?} by faer, {grad:?} by us");
    }
    grad.w.resize(longer(grad.w.len(), input.surplus[2]), T::from_f64(0.0));
    let result = model.score_vjp(x, v, &mut grad);
    let fits = grad.w.len() == model.neurons() && d == model.dim();
    // Points of any bits cannot always be put on the sphere.
    assert!(result.is_ok() == fits || input.sphere && input.points != Class::Tame && fits);
    accepted(result);
}

fn monitors<T: Float>(
    input: &Input<'_>,
    numbers: &mut Numbers<'_>,
    model: &ReluEnergy<T>,
    x: Rows<'_, T>,
) {
    let tame = input.parameters == Class::Tame && input.points == Class::Tame;
    let norms = [monitor::f1_norm(model), monitor::f2_norm(model), monitor::lipschitz(model)];
    let moderate = |values: &[T]| values.iter().all(|x| x.to_f64().abs() < 1e150);
    if moderate(model.theta().as_slice()) && model.bias().is_none_or(moderate) {
        assert!(norms.iter().all(|norm| *norm >= 0.0), "{norms:?}");
    }
    assert_eq!(monitor::imbalance(model).len(), model.neurons());
    let centre = numbers.array::<T>(input.points, longer(model.dim(), input.surplus[3]));
    let local = accepted(monitor::local_lipschitz(model, &centre, input.radius.value()));
    let weights = numbers.array::<f64>(input.weights, x.rows());
    let curvature = accepted(monitor::curvature(model, x, &weights));
    let kernel = accepted(monitor::ntk(model, x));
    if tame {
        assert!(finite(&norms) && local.is_none_or(f64::is_finite));
        assert!(curvature.is_none_or(|curvature| curvature.largest.is_finite()));
        assert!(kernel.is_none_or(|kernel| finite(&kernel)));
    }
    let flipped = model.clone().with_isa(Isa::Scalar);
    accepted(monitor::ntk_drift(model, &flipped, x));
}

/// Kernels on the model's scores.
fn discrepancies<T: Float>(input: &Input<'_>, model: &ReluEnergy<T>, x: Rows<'_, T>) {
    let Some(kernel) = accepted(SteinKernel::imq(input.radius.value(), -0.5)) else { return };
    let kernel = if input.sphere { kernel.on_sphere() } else { kernel };
    let Some(gram) = accepted(Gram::of_energy(&kernel, model, x)) else { return };
    let ksd = accepted(gram.ksd(Statistic::V, &mut |_| {}));
    assert!(ksd.is_none_or(|ksd| ksd.squared.is_finite()), "{ksd:?}");
}

/// The model as a student of a teacher.
fn teachers<T: Float>(numbers: &mut Numbers<'_>, model: &ReluEnergy<T>) {
    let (choice, seed, set) = (numbers.byte(), numbers.byte(), numbers.byte());
    let (name, _) = NAMES[usize::from(choice) % NAMES.len()];
    let dim = longer(model.dim(), choice as i8);
    let Some(teacher) = accepted(Teacher::<T>::named(name, dim, seed.into())) else { return };
    let kl = accepted(teacher.kl_to(model, usize::from(set % 32), seed.into()));
    assert!(kl.is_none_or(|kl| kl >= 0.0 && kl.is_finite()), "{kl:?}");
    let cosine = accepted(teacher.max_cosine(model));
    assert!(cosine.is_none_or(|cosine| (0.0..=1.0).contains(&cosine)), "{cosine:?}");
    // Sets of 0 and from 512 on; thousands of proposals.
    if dim < 4
        && set % 86 < 2
        && let Some(draws) = accepted(teacher.sample(2, seed.into(), 6 * u64::from(set)))
    {
        assert!(draws.len() == 2 * dim && finite(&draws));
    }
}

/// New parameters, which are taken or leave the model as it was.
fn update<T: Float>(input: &Input<'_>, numbers: &mut Numbers<'_>, model: &mut ReluEnergy<T>) {
    let len = model.neurons() * (model.dim() + 2);
    let values = numbers.array::<T>(input.weights, len);
    let before = model.clone();
    let result = model.update_parameters(|w, theta, bias| {
        let mut values = values.iter();
        let all = w.iter_mut().chain(theta).chain(bias.into_iter().flatten());
        all.for_each(|parameter| *parameter = *values.next().expect("enough for all"));
    });
    let used = len - if input.bias { 0 } else { model.neurons() };
    assert_eq!(result.is_ok(), finite(&values[..used]));
    let taken = accepted(result).is_some();
    let x = numbers.array::<T>(Class::Tame, 3 * model.dim());
    let x = Rows::new(&x, 3, model.dim()).expect("sized for it");
    let energies = |model: &ReluEnergy<T>| {
        let mut energy = [T::from_f64(0.0); 3];
        accepted(model.energy(x, &mut energy)).expect("of the right shape");
        energy
    };
    let expected = if taken {
        let made = ReluEnergy::new(model.theta(), model.w()).expect("as they were taken");
        match model.bias() {
            Some(bias) => made.with_bias(bias).expect("as they were taken"),
            None => made,
        }
    } else {
        before
    };
    assert!(same(&energies(model), &energies(&expected)), "taken: {taken}");
}

fn diagnostics(input: &Input<'_>, numbers: &mut Numbers<'_>) {
    let (chains, draws) = (usize::from(input.n % 5), usize::from(input.m % 30));
    let class = input.points;
    let values = numbers.array::<f64>(class, longer(chains * draws, input.surplus[1]));
    if let Ok(draws) = Draws::from_flat(&values, chains) {
        let summary = draws.summary();
        assert!(!summary.r_hat.is_sign_negative() || summary.r_hat.is_nan(), "{summary:?}");
        assert!(!(summary.ess_bulk <= 0.0), "{summary:?}");
        draws.autocorrelation(usize::from(input.d));
    }
    let Ok(mut running) = RunningDiagnostics::new(chains, 2) else { return };
    for states in values.chunks(chains * 2) {
        let before = running.draws();
        let taken = running.update(states).is_ok();
        assert_eq!(taken, states.len() == 2 * chains && finite(states));
        assert_eq!(running.draws(), before + u64::from(taken));
    }
    assert!(running.coordinate(2).is_none() && running.coordinate(1).is_some());
    running.worst_ess();
    running.worst_r_hat();
}

/// Streams side by side give what each gives alone.
fn streams<T: Float>(input: &Input<'_>) {
    let (seed, first) = (input.view[0].value() as u64, input.view[1].value() as u64);
    let isa = Isa::ALL[usize::from(input.isa) % Isa::ALL.len()];
    let (count, len) = (usize::from(input.m), usize::from(input.n));
    let streams = accepted(Streams::<T>::new(seed, first, count, isa)).expect("memory for a few");
    let mut words = vec![0; len];
    streams.clone().words(&mut words);
    let mut normals = vec![T::from_f64(0.0); count * 3];
    let rows = RowsMut::new(&mut normals, count, 3).expect("sized for it");
    accepted(streams.clone().normals(rows)).expect("a row for each");
    for c in 0..count {
        let mut alone = Stream::new(seed, first.wrapping_add(c as u64));
        let whole = len / count * count;
        words[..whole]
            .iter()
            .skip(c)
            .step_by(count)
            .for_each(|&word| assert_eq!(word, alone.bits()));
        let mut row = [T::from_f64(0.0); 3];
        Stream::new(seed, first.wrapping_add(c as u64)).fill_normal(&mut row);
        assert!(same(&row, &normals[3 * c..][..3]), "stream {c} of {count} on {isa}");
    }
}

fn check<T: Float>(input: &Input<'_>) {
    let mut numbers = Numbers::new(input.numbers);
    diagnostics(input, &mut numbers);
    streams::<T>(input);
    let Some(mut model) = model::<T>(input, &mut numbers) else { return };
    // Another dimension than the model's now and then.
    let d = if input.pad > 250 { usize::from(input.pad % 3) } else { model.dim() };
    let n = usize::from(input.n % 70).min(8_000 / (d * model.neurons()).max(1));
    let mut x = numbers.array::<T>(input.points, n * d);
    if input.sphere {
        normalise(&mut x, d);
    }
    let stride = d + usize::from(input.pad % 4);
    let mut wide = vec![T::from_f64(f64::NAN); n * stride];
    for i in 0..n {
        wide[i * stride..][..d].copy_from_slice(&x[i * d..][..d]);
    }
    let x = Rows::with_stride(&wide, n, d, stride).expect("sized for it");
    evaluations(input, &model, x);
    gradients(input, &mut numbers, &model, x);
    monitors(input, &mut numbers, &model, x);
    discrepancies(input, &model, x);
    teachers(&mut numbers, &model);
    update(input, &mut numbers, &mut model);
}

fuzz_target!(|input: Input<'_>| {
    let [rows, cols, stride] = input.view.map(Size::value);
    views(rows, cols, stride);
    match input.double {
        false => check::<f32>(&input),
        true => check::<f64>(&input),
    }
});
